"""Who listens on a port of this machine: a token is for the installation of its owner, or of the administrator."""

import os
import socket
from pathlib import Path

_LISTENS = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def stranger_on(host: str, port: int, *, tables: tuple[Path, ...] = _TABLES) -> int | None:
    """Return the user who listens on a loopback port and is neither this one nor the administrator; None for nobody.

    Nobody is known on a host that is not this machine, nor where the system does not tell.
    """
    if not _is_loopback(host):
        return None
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *rest = line.split()
            user = int(rest[3])
            if state == _LISTENS and int(local.rpartition(":")[2], 16) == port and user not in (os.geteuid(), 0):
                return user
    return None


def _is_loopback(host: str) -> bool:
    try:
        address = socket.gethostbyname(host)
    except OSError:
        return False
    return address.startswith("127.")
