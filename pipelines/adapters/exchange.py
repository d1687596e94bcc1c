"""Ends an exchange at its deadline, whatever the other side still sends: a client's timeout starts anew with each byte.

A connection is shut from here, below TLS and HTTP, so a head that trickles in is ended like a body that does.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx


class Deadline:
    """The end of one exchange, `limit_s` from its start; `passed` says that it was reached."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.passed = False
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []

    def watch(self, connection: socket.socket) -> None:
        """Have a connection shut at the deadline, whatever it is wrapped in by then."""
        with self._lock:
            self._watched.append(connection.dup())
        if self.passed:
            self.reach()

    def reach(self) -> None:
        """Shut what is watched."""
        with self._lock:
            self.passed = True
            for connection in self._watched:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give up what is watched."""
        with self._lock:
            while self._watched:
                self._watched.pop().close()


@contextmanager
def deadline(limit_s: float) -> Iterator[Deadline]:
    """Give the block so many seconds for what it watches; when they are over, raise TimeoutError for all else."""
    until = Deadline(limit_s)
    timer = threading.Timer(limit_s, until.reach)
    timer.daemon = True
    timer.start()
    try:
        yield until
    except Exception as error:
        if until.passed:
            raise _late(until) from error
        raise
    finally:
        timer.cancel()
        until.release()
    # An end of the connection may look like that of an answer.
    if until.passed:
        raise _late(until)


@contextmanager
def streamed(client: httpx.Client, method: str, url: str, *, limit_s: float, **more: Any) -> Iterator[httpx.Response]:
    """Send a request on a connection of its own and give its answer, all within `limit_s`; then raise ReadTimeout.

    `client` must keep no connections.
    """
    try:
        with (
            deadline(limit_s) as until,
            client.stream(method, url, extensions={"trace": _tracing(until)}, **more) as answer,
        ):
            yield answer
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error


def _tracing(until: Deadline) -> Callable[[str, dict[str, Any]], None]:
    def trace(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            until.watch(info["return_value"].get_extra_info("socket"))

    return trace


def _late(until: Deadline) -> TimeoutError:
    return TimeoutError(f"not all had come after {until.limit_s:g} s")
