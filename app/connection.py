"""HTTP as a replica speaks it: bounded heads, strict framing, offers ignored, answers in one piece.

It reaches into uvicorn's protocol, whose parts are not public: uvicorn is pinned, and tests send real replicas what
strangers send.
"""

import asyncio
import re
from enum import Enum, auto
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.connections import Connections, Stage, Watch, refusal
from app.errors import RequestError
from app.heads import MAX_HEAD_BYTES, HeadTooLargeError, split_head
from app.transport import AnswerTransport, HeldFlow

# A name or an address, and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
# What frames a body in pieces: beyond a head's size, so many bytes for each of the body.
_FRAMING_RATIO = 16
# So much is kept of what comes behind a request that is being answered.
_MOST_BEHIND_BYTES = 64 << 10
# Of what is dropped, as its request is refused: of an announced body, and of anything else.
_MOST_BODY_BYTES = 16 << 20
_UNANNOUNCED_BYTES = 1 << 20
# More than the parser takes, but for zeros in front.
_DIGITS = 20


class _Awaited(Enum):
    """What the parser takes next."""

    REQUEST = auto()
    REST_OF_HEAD = auto()
    BODY = auto()


class ReplicaProtocol(HttpToolsProtocol):
    """One connection of a replica: one request at a time; what comes behind it is neither parsed nor read on."""

    server_state: Connections
    watch: Watch
    flow: HeldFlow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection over, and another down where there are too many."""
        self._awaited = _Awaited.REQUEST
        # What has come and is not parsed yet.
        self._kept = b""
        self._is_last = False
        self._length: int | None = 0
        self._parsed_bytes = self._body_bytes = 0
        super().connection_made(AnswerTransport(transport, self._rest_bytes))  # type: ignore[arg-type]
        self.flow = HeldFlow(self.transport)
        self.server_state.admit(self)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as soon as a head is whole; behind the last answer, drop it."""
        if self.transport.is_closing():
            self.transport.drop(data)  # type: ignore[attr-defined]
            return
        if self._is_last:
            return
        self._unset_keepalive_if_required()
        self._kept += data
        self._parse()

    def on_message_begin(self) -> None:
        """Note that a head has begun; raise ValueError for one that was not looked at before."""
        if self._awaited is not _Awaited.REST_OF_HEAD:
            raise ValueError("this is behind the request")
        self._parsed_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer; raise ValueError, which is answered with 400, for a head that others may read otherwise."""
        self._check_head()
        super().on_headers_complete()
        self._awaited = _Awaited.BODY
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
        if self._kept and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            # In a turn of its own: others are answered between two requests of one connection.
            self.loop.call_soon(self._parse)

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
        if self._kept:
            return Stage.HEAD
        return Stage.REQUEST if self.cycle else Stage.FIRST_REQUEST

    @property
    def received_bytes(self) -> int:
        """How much has come of the request that is under way."""
        return self._parsed_bytes

    def refuse(self, error: RequestError) -> None:
        """Answer in the service's place, unless it has begun to, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        being_answered = cycle is not None and (self._awaited is _Awaited.BODY or not cycle.response_complete)
        if not (being_answered and cycle.response_started):
            self.transport.write(refusal(error))
            self.config.loaded_app.count_refusal(error.status)
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _rest_bytes(self) -> int:
        """Return how much of what the client is sending is dropped behind a last answer."""
        if self._awaited is _Awaited.BODY and self._length is not None:
            return min(self._length - self._body_bytes, _MOST_BODY_BYTES)
        is_sending = self._is_last or self._kept or self._awaited is not _Awaited.REQUEST
        return _UNANNOUNCED_BYTES if is_sending else 0

    def _parse(self) -> None:
        while self._kept and not (self._is_last or self.transport.is_closing()):
            if self._awaited is _Awaited.BODY:
                self._parse_body()
            elif self.cycle is not None and not self.cycle.response_complete:
                self.flow.hold()
                if len(self._kept) > _MOST_BEHIND_BYTES:
                    self._end_with_answer()
                return
            elif not self._parse_head():
                return

    def _parse_head(self) -> bool:
        """Return whether a head was there."""
        self.flow.let_go()
        try:
            head, self._kept = split_head(self._kept)
        except HeadTooLargeError:
            text = f"the head of the request has more than {MAX_HEAD_BYTES} bytes"
            self.refuse(RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", text))
            return False
        if head:
            self._awaited = _Awaited.REST_OF_HEAD
            self._feed(head)
            if self._awaited is _Awaited.REST_OF_HEAD:
                self.send_400_response("The head has an end within it.")
        return bool(head)

    def _parse_body(self) -> None:
        # Up to its end and no further; where that is, with a body in pieces, only the parser knows.
        most = len(self._kept) if self._length is None else max(self._length - self._body_bytes, 1)
        piece, self._kept = self._kept[:most], self._kept[most:]
        self._feed(piece)
        framing_bytes = self._parsed_bytes - self._body_bytes
        if not self._is_last and framing_bytes > 2 * MAX_HEAD_BYTES + _FRAMING_RATIO * self._body_bytes:
            self.send_400_response("There is more around the body than in it.")

    def _feed(self, data: bytes) -> None:
        self._parsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            # Not logged: strangers would fill the log. It is counted.
            if self._awaited is _Awaited.REQUEST:
                self._end_with_answer()
            else:
                self.send_400_response("Invalid HTTP request received.")

    def _end_with_answer(self) -> None:
        """Let the answer under way be the last; what is behind its request has to be sent again elsewhere."""
        self._is_last, self._kept = True, b""
        self.flow.hold()
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]

    def _check_head(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            raise ValueError("a request names one host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise ValueError("no host is called so")
        named = dict(self.headers)
        in_pieces = b"transfer-encoding" in named
        self._length = None if in_pieces else int(named.get(b"content-length", b"0")[-_DIGITS:])
