"""A TCP proxy that cuts a connection around a commit, as a network or a server that goes away does."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto


class Cut(Enum):
    """Where a connection is cut: nowhere, before the server hears of the commit, or before its answer arrives."""

    NOT = auto()
    BEFORE_COMMIT = auto()
    AFTER_COMMIT = auto()


class CuttingProxy:
    """Forwards `port` to `target`; `cut` says what becomes of the next commit, `closed` refuses new connections."""

    def __init__(self, target: int) -> None:
        self.cut = Cut.NOT
        self.closed = False
        self.cuts = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Accept connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.closed:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                silent = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, silent), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, silent), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _ask(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with _ending(client, server):
            while asked := client.recv(65536):
                if b"COMMIT" in asked and self.cut is not Cut.NOT:
                    self.cuts += 1
                    if self.cut is Cut.BEFORE_COMMIT:
                        return
                    silent.set()
                server.sendall(asked)

    def _answer(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with _ending(client, server):
            while answered := server.recv(65536):
                if silent.is_set():
                    return
                client.sendall(answered)


@contextmanager
def _ending(*connections: socket.socket) -> Iterator[None]:
    """End both connections after the block; shut down first, or a thread that still receives would keep them open."""
    with contextlib.suppress(OSError):
        yield
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextmanager
def cutting_proxy(target: int) -> Iterator[CuttingProxy]:
    """Run a proxy to a port of this machine."""
    proxy = CuttingProxy(target)
    threading.Thread(target=proxy.run, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
