"""One connection of the API: the rules of app/connections.py, anew for another parser, as the parts share no code.

A client that lets the API wait is cut, and too many do not shut others out. Nothing is read on behind a request that is
being answered, and no answer is lost because its client was still sending. What is bounded is fewer than there: an API
has no health check that many ask at once, and its answers to single requests are small.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

# So long a client may let the API wait: for a head, for a body, or to take an answer.
PATIENCE_S = 10
MOST = 500
_LOOK_S = 1.0
# So much is dropped behind a last answer.
_DROPPED_BYTES = 16 << 20


class _HearingTransport:
    """Closes once a client that `is_sending` has been heard out, as what is unread would cost it the answer."""

    def __init__(self, transport: asyncio.Transport, is_sending: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_sending = is_sending
        self._ended = False
        self._left_bytes = _DROPPED_BYTES

    def close(self) -> None:
        """Close; the first time, a client that is still sending is only told the end."""
        if self._ended or self._transport.is_closing() or not self._is_sending():
            self._transport.close()
            return
        self._ended = True
        self._transport.write_eof()
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        """Return whether nothing more is answered."""
        return self._ended or self._transport.is_closing()

    def drop(self, data: bytes) -> None:
        """Take what comes behind the last answer; cut who does not stop."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _HeldFlow(FlowControl):
    """A flow that is not resumed while `is_behind`: uvicorn does so after each answer, and when a body is asked for."""

    def __init__(self, transport: asyncio.Transport, is_behind: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_behind = is_behind

    def resume_reading(self) -> None:
        """Read again, unless a request waits behind the one under way."""
        if self.read_paused and not self._is_behind():
            super().resume_reading()


class ApiProtocol(H11Protocol):
    """HTTP as uvicorn speaks it. Seconds are counted: a machine that stood still takes none of a client's time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection over; where there are too many, the one goes that has let the API wait for longest."""
        super().connection_made(_HearingTransport(transport, self._is_sending))  # type: ignore[arg-type]
        self.flow = _HeldFlow(self.transport, self._is_behind)
        self._seen: tuple[object, object] = (None, None)
        self._seconds = 0
        self._look = self.loop.call_later(_LOOK_S, self._look_again)
        if len(self.connections) > MOST:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no longer."""
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come; behind the last answer, drop it."""
        if self.transport.is_closing():
            self.transport.drop(data)  # type: ignore[attr-defined]
        else:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Go on with what is behind the request, and read on only where that is no whole request."""
        super().on_response_complete()
        self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where an answer has begun already, only the end is left to say."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    @property
    def waits_for_client(self) -> bool:
        """Whether the next thing to come is the client's."""
        if self.conn.their_state is h11.SEND_BODY:
            return not self.flow.read_paused
        return self.cycle is None or self.cycle.response_complete

    def _is_behind(self) -> bool:
        return self.conn.their_state is h11.DONE and bool(self.conn.trailing_data[0])

    def _is_sending(self) -> bool:
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or bool(self.conn.trailing_data[0])

    def _client_has_turn(self) -> bool:
        """Whether it is for the client to send, to take its answer, or to leave."""
        return self.waits_for_client or self.flow.write_paused or self.transport.is_closing()

    def _look_again(self) -> None:
        self._look = self.loop.call_later(_LOOK_S, self._look_again)
        now = (self.cycle, self.conn.their_state)
        self._seconds = 0 if not self._client_has_turn() or now != self._seen else self._seconds + 1
        self._seen = now
        if self._seconds > PATIENCE_S:
            self.transport.abort()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, ApiProtocol) and each is not self]
        waiting = [each for each in others if each._client_has_turn()]
        if waiting:
            max(waiting, key=lambda each: each._seconds).transport.abort()
        else:
            self.transport.abort()
