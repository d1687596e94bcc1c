"""The gunicorn worker: stops without resetting a connection, and says why it could not start.

The draining server uses uvicorn's `servers`, `server_state` and `shutdown`, which are not public: uvicorn is
pinned, and a test stops a real replica under load.
"""

import asyncio
import socket
import sys
from enum import Enum, auto
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from app.errors import StartupError
from app.heads import MAX_HEAD_BYTES, Heads, HeadTooLargeError
from app.logs import EventLog, Level

DRAIN_S = 2.0
_POLL_S = 0.02
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class DrainingServer(Server):
    """A uvicorn server that gives its clients time to leave; stock uvicorn resets idle ones at once."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer with `Connection: close`, wait up to 2 s for connections, then shut down."""
        service: Any = self.config.app
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        service.drain()
        # In place: requests that are being answered hold this list.
        self.server_state.default_headers.append((b"connection", b"close"))
        service.log.write(Level.INFO, "draining", connections=len(self.server_state.connections))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(_POLL_S)
        left = len(self.server_state.connections)
        await super().shutdown(sockets)
        service.log.write(Level.INFO, "stopped", connections_closed=left)


class JoiningTransport:
    """Sends what is written within one turn of the event loop at once.

    uvicorn writes the head and the body of an answer one by one. A replica that dies in between leaves half an
    answer, which nobody in front of it can ask for again.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep `data` until the end of this turn."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what is kept, then close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._parts:
            content = b"".join(self._parts)
            self._parts = []
            self._transport.write(content)


class _Awaited(Enum):
    """What a connection sends next."""

    REQUEST = auto()
    REST_OF_HEAD = auto()
    BODY = auto()


class ReplicaProtocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but for bounded heads, offers that are ignored, and answers in one piece."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection over."""
        self._heads = Heads()
        self._awaited, self._rest_bytes = _Awaited.REQUEST, 0
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as soon as a head is whole; refuse with 431 one that is too large."""
        try:
            if self._awaited is _Awaited.REQUEST:
                data = self._heads.whole(data)
        except HeadTooLargeError:
            self._refuse_head()
            return
        if not data:
            return
        self._rest_bytes += len(data)
        super().data_received(data)
        # Of a head that began behind another request only what came since, and only while there is no end of it.
        if self._awaited is _Awaited.REST_OF_HEAD and self._rest_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Note that a head has begun: where it came behind another request, the rest of it may be yet to come."""
        self._awaited, self._rest_bytes = _Awaited.REST_OF_HEAD, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer; what comes next is the body."""
        self._awaited = _Awaited.BODY
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Give the end of the body on; what comes next is another request."""
        self._awaited = _Awaited.REQUEST
        super().on_message_complete()

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()


class DrainingWorker(UvicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """The one worker of a replica."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012  # the base class declares it so
        "loop": "uvloop",
        "http": ReplicaProtocol,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        # Shorter than gunicorn's graceful_timeout: a stuck request is cancelled, not the process killed.
        "timeout_graceful_shutdown": 5,
    }

    def load_wsgi(self) -> None:
        """Make the service, or end with the reason as the last log line and gunicorn's boot-error status."""
        try:
            super().load_wsgi()
        except StartupError as error:
            EventLog().write(Level.ERROR, "start_failed", kind=type(error).__name__, reason=str(error))
            # gunicorn stops at this status instead of starting workers for ever.
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(config=self.config)
        self._install_sigquit_handler()
        self.wsgi.log.write(Level.INFO, "serving", pid=self.pid)
        await server.serve(sockets=self.sockets)
