"""The TCP sockets of the slots: bound while the supervisor lives, so that no other process gets a port."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pipelines.domain.release import Environment
from pipelines.errors import PortTaken

HOST = "127.0.0.1"
_LISTEN = "0A"


class SlotSocket:
    """A slot's port. Replicas make it listen; merely bound, it refuses connections, and none hangs."""

    def __init__(self, bound: socket.socket) -> None:
        self._hold(bound)

    @property
    def url(self) -> str:
        """Where the slot is reached."""
        return f"http://{HOST}:{self.port}"

    def fileno(self) -> int:
        """Return the descriptor to hand on to replicas."""
        return self._socket.fileno()

    def stop_listening(self) -> None:
        """Refuse connections from now on; for when no replica holds the socket any more."""
        self._socket.close()
        self._hold(_bind_kept(self.port))

    def close(self) -> None:
        """Give the port back; `port` still tells which it was."""
        self._socket.close()

    def _hold(self, bound: socket.socket) -> None:
        self._socket = bound
        self.port = int(bound.getsockname()[1])


def claim_live(environment: Environment, port: int) -> SlotSocket:
    """Bind the port that clients know, or raise PortTaken saying who has it and which setting moves it."""
    try:
        return SlotSocket(_bind(port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        holder = port_holder(port)
        raise PortTaken(
            f"port {port} on {HOST} is taken" + (f" by pid {holder}" if holder else f" ({error.strerror})"),
            next=f"stop that process, or set SLIPWAY_PORT_{environment.name} to a free port",
        ) from error


def claim_kept(port: int) -> SlotSocket:
    """Bind the port kept from last time (0: none yet), or a new free one when another process has it now."""
    return SlotSocket(_bind_kept(port))


def port_holder(port: int) -> int | None:
    """Return the pid that listens on a TCP port, as far as /proc tells this user."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not wanted:
        return None
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) in wanted:
                return int(fd.parts[2])
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    yield fields[9]


def _bind_kept(port: int) -> socket.socket:
    try:
        return _bind(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return _bind(0)


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Connections of former replicas in TIME_WAIT must not keep the port from us.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound
