"""Passes the listening sockets of a supervisor on to its successor, so that no request is lost when it is replaced.

The replicas hold the same sockets and go on serving meanwhile; the successor ends them when its own have confirmed
themselves. A supervisor that can be asked passes its sockets on, and stays what it is until its successor says, on the
same connection, that it has them. The sockets of one that can't be asked are taken from its replicas.
"""

import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipelines.adapters.local.supervisor.home import ProcessRecord
from pipelines.adapters.local.supervisor.identity import birth
from pipelines.adapters.local.supervisor.wire import Command
from pipelines.errors import SlipwayError, Undecided

_ANSWER_S = 10.0
_ANSWER_BYTES = 65_536
_MOST_SOCKETS = 8
# The same number on every architecture of Linux; Python has no name for it.
_PIDFD_GETFD = 438


def give_sockets(connection: socket.socket, reply: bytes, sockets: Sequence[int]) -> None:
    """Answer a successor, with the sockets when it has asked with HAND_OVER."""
    if sockets:
        socket.send_fds(connection, [reply], list(sockets))
    else:
        connection.sendall(reply)


@contextlib.contextmanager
def asked_for_sockets(control: str) -> Iterator[list[socket.socket]]:
    """Lend the sockets of the supervisor that runs, which then leaves; none where there is no supervisor.

    It stays if this ends before it has left: as long as the block lasts, it knows that its successor is there. Raises
    Undecided when it does not answer, and what it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(control)
        except (FileNotFoundError, ConnectionRefusedError):
            yield []
            return
        sockets = _received(connection, control)
        # One of the version before has left already.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(_request(Command.LEAVE))
        yield sockets


def _received(connection: socket.socket, control: str) -> list[socket.socket]:
    try:
        connection.sendall(_request(Command.HAND_OVER))
        reply, fds, _, _ = socket.recv_fds(connection, _ANSWER_BYTES, _MOST_SOCKETS)
    except OSError as error:
        raise Undecided(
            f"the supervisor on {control} does not pass its sockets on: {error}",
            next='it goes on serving; run "make up" again, which replaces one that is frozen',
        ) from error
    if fds:
        return [socket.socket(fileno=fd) for fd in fds]
    try:
        refusal = json.loads(reply)["error"]
    except (ValueError, KeyError) as error:
        raise Undecided(f"the supervisor on {control} passes no sockets on: {reply[:80]!r}") from error
    raise SlipwayError.from_dict(refusal)


def _request(command: Command) -> bytes:
    return json.dumps({"command": command}).encode() + b"\n"


def find_sockets(processes: Iterable[ProcessRecord]) -> list[socket.socket]:
    """Take the listening TCP sockets of replicas that have lost their supervisor, where the system lets us."""
    found: dict[int, socket.socket] = {}
    for process in processes:
        pid = process.pid if process.born and birth(process.pid) == process.born else process.worker
        if pid is None or (pid == process.worker and birth(pid) != process.worker_born):
            continue
        for taken in _listening(pid):
            port = int(taken.getsockname()[1])
            if port in found:
                taken.close()
            else:
                found[port] = taken
    return list(found.values())


def _listening(pid: int) -> Iterator[socket.socket]:
    # Under Yama a process may look into its descendants only, and elsewhere than on Linux into none.
    with contextlib.suppress(OSError):
        if not sys.platform.startswith("linux"):
            return
        pidfd = os.pidfd_open(pid)
        try:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(entry).startswith("socket:"):
                    yield from _if_listening(_duplicate(pidfd, int(entry.name)))
        finally:
            os.close(pidfd)


def _if_listening(fd: int) -> Iterator[socket.socket]:
    taken = socket.socket(fileno=fd)
    if taken.family == socket.AF_INET and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        yield taken
    else:
        taken.close()


def _duplicate(pidfd: int, fd: int) -> int:
    duplicate: int = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, fd, 0)
    if duplicate < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return duplicate
