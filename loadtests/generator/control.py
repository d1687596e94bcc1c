"""Serve an empty endpoint on the loopback: what a load run measures there is machine and generator."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Stands in a host's place for the empty endpoint that each worker has on its own machine, and is told by this variable.
OWN_ENDPOINT = "http://own-empty-endpoint"
ENDPOINT_VARIABLE = "SLIPWAY_EMPTY_ENDPOINT"
VERSION = "control"
BODY = f'{{"prediction":"","probability":0.5,"version":"{VERSION}"}}'.encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
HEAD_END = b"\r\n\r\n"
LENGTH_FIELD = b"content-length:"


class EmptyEndpoint(asyncio.Protocol):
    """Answer every request with the same reply once its body has arrived."""

    def __init__(self) -> None:
        """Begin a connection on which nothing has arrived."""
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._received += data
        while HEAD_END in self._received and self._transport:
            head, _, rest = self._received.partition(HEAD_END)
            length = _content_length(head)
            if len(rest) < length:
                return
            self._received = rest[length:]
            self._transport.write(REPLY)


@contextmanager
def empty_endpoint() -> Iterator[str]:
    """Serve in a thread for as long as the context lasts; yield its URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(EmptyEndpoint, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, name="empty-endpoint", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(LENGTH_FIELD):
            return int(line.removeprefix(LENGTH_FIELD))
    return 0
