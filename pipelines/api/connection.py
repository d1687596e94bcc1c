"""One connection of the API: the rules of app/connections.py, anew for another parser, as the parts share no code.

A client that lets the API wait is cut, and too many do not shut others out. What is bounded is fewer than there: an API
has no health check that many ask at once, and its answers to single requests are small.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# So long a client may let the API wait: for a head, for a body, or to take an answer.
PATIENCE_S = 10
MOST = 500
_LOOK_S = 1.0


class ApiProtocol(H11Protocol):
    """HTTP as uvicorn speaks it. Seconds are counted: a machine that stood still takes none of a client's time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection over; where there are too many, the one goes that has let the API wait for longest."""
        super().connection_made(transport)
        self._seen: tuple[object, object] = (None, None)
        self._seconds = 0
        self._look = self.loop.call_later(_LOOK_S, self._look_again)
        if len(self.connections) > MOST:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no longer."""
        self._look.cancel()
        super().connection_lost(exc)

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

    def _look_again(self) -> None:
        self._look = self.loop.call_later(_LOOK_S, self._look_again)
        now = (self.cycle, self.conn.their_state)
        idle = not (self.waits_for_client or self.flow.write_paused or self.transport.is_closing())
        self._seconds = 0 if idle or now != self._seen else self._seconds + 1
        self._seen = now
        if self._seconds > PATIENCE_S:
            self.transport.abort()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, ApiProtocol) and each is not self]
        waiting = [each for each in others if each.waits_for_client and not each.transport.is_closing()]
        if waiting:
            max(waiting, key=lambda each: each._seconds).transport.abort()
        else:
            self.transport.abort()
