"""HTTP as a replica speaks it: bounded heads, strict framing, offers ignored, answers in one piece.

It reaches into uvicorn's protocol, whose parts are not public: uvicorn is pinned, and tests send real replicas what
strangers send.
"""

import asyncio
import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.connections import Connections, Stage, Watch, refusal
from app.errors import RequestError
from app.heads import MAX_HEAD_BYTES, Heads, HeadTooLargeError

# A name or an address, and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
# What frames a body in pieces: beyond a head's size, so many bytes for each of the body.
_FRAMING_RATIO = 16


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
    """One connection of a replica."""

    server_state: Connections
    watch: Watch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection over, and another down where there are too many."""
        self._heads = Heads()
        self._awaited, self._rest_bytes, self._body_bytes = _Awaited.REQUEST, 0, 0
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]
        self.server_state.admit(self)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as soon as a head is whole; refuse with 431 one that is too large."""
        if self._awaited is _Awaited.REQUEST:
            try:
                data = self._heads.whole(data)
            except HeadTooLargeError:
                self._refuse_head()
                return
            if not data:
                return
        self._rest_bytes += len(data)
        super().data_received(data)
        if self._rest_bytes > MAX_HEAD_BYTES:
            self._check_rest()

    def on_message_begin(self) -> None:
        """Note that a head has begun: where it came behind another request, the rest of it may be yet to come."""
        self._awaited, self._rest_bytes, self._body_bytes = _Awaited.REST_OF_HEAD, 0, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer; raise ValueError, which is answered with 400, for a head that others may read otherwise."""
        self._check_head()
        self._awaited = _Awaited.BODY
        super().on_headers_complete()
        # What comes behind a body in pieces is of no use, and must not be taken for headers.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Give a piece of the body on."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Give the end of the body on; what comes next is another request."""
        self._awaited = _Awaited.REQUEST
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Forget what nobody has read of the body, and go on."""
        if self.cycle.response_complete and self.cycle.body:
            self.cycle.body = bytearray()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or not of one meaning."""
        self.refuse(RequestError(HTTPStatus.BAD_REQUEST, "bad_request", msg))

    @property
    def stage(self) -> Stage:
        """What the connection waits for."""
        if self.transport.is_closing():
            return Stage.END
        if self.flow.write_paused:
            return Stage.READER
        if self._awaited is _Awaited.BODY:
            return Stage.SERVICE if self.flow.read_paused else Stage.BODY
        if self.cycle is not None and not self.cycle.response_complete:
            return Stage.SERVICE
        if self._awaited is _Awaited.REST_OF_HEAD or self._heads.begun:
            return Stage.HEAD
        return Stage.REQUEST if self.cycle else Stage.FIRST_REQUEST

    @property
    def received_bytes(self) -> int:
        """How much has come of the request that is under way."""
        return self._rest_bytes

    def refuse(self, error: RequestError) -> None:
        """Answer in the service's place, unless it has begun to, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        being_answered = self._awaited is _Awaited.BODY or (cycle is not None and not cycle.response_complete)
        if not (being_answered and cycle.response_started):
            self.transport.write(refusal(error))
            self.config.loaded_app.count_refusal(error.status)
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _check_head(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            raise ValueError("a request names one host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise ValueError("no host is called so")

    def _check_rest(self) -> None:
        if self._awaited is _Awaited.REST_OF_HEAD:
            self._refuse_head()
        elif self._awaited is _Awaited.BODY:
            framing_bytes = self._rest_bytes - self._body_bytes
            if framing_bytes > 2 * MAX_HEAD_BYTES + _FRAMING_RATIO * self._body_bytes:
                self.send_400_response("There is more around the body than in it.")

    def _refuse_head(self) -> None:
        text = f"the head of the request has more than {MAX_HEAD_BYTES} bytes"
        self.refuse(RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", text))
