"""How a replica sends and ends: an answer in one piece, and none lost because its client was still sending."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class AnswerTransport:
    """Sends what is written within one turn of the event loop at once, and closes after its client has read it.

    uvicorn writes the head and the body of an answer one by one. A replica that dies in between leaves half an
    answer, which nobody in front of it can ask for again. And a connection that is closed with something unread is
    reset, which takes the answer from the client: so much as `rest_bytes` says is still to come is heard out.
    """

    def __init__(self, transport: asyncio.Transport, rest_bytes: Callable[[], int]) -> None:
        self._transport = transport
        self._rest_bytes = rest_bytes
        self._call_soon = asyncio.get_running_loop().call_soon
        self._parts: list[bytes] = []
        self._ended = False
        self._left_bytes = 0

    def write(self, data: bytes) -> None:
        """Keep `data` until the end of this turn."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what is kept, then close; the first time, a client that is still sending is only told the end."""
        self._flush()
        self._left_bytes = 0 if self.is_closing() else self._rest_bytes()
        if not self._left_bytes:
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

    def _flush(self) -> None:
        if self._parts:
            content = b"".join(self._parts)
            self._parts = []
            self._transport.write(content)


class HeldFlow(FlowControl):
    """A flow that nobody resumes while it is held: uvicorn does after each answer, and whenever a body is asked for."""

    _held = False

    def hold(self) -> None:
        """Read nothing more until `let_go`."""
        self._held = True
        self.pause_reading()

    def let_go(self) -> None:
        """Read again."""
        self._held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read again, unless held."""
        if not self._held:
            super().resume_reading()
