"""A connection to nobody and a service behind it, for tests of what a server does with what comes."""

import asyncio
from typing import Any

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


class Service:
    """Answers a request as soon as it is told to."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.may_answer = asyncio.Semaphore(0)
        self.refused: list[int] = []

    def count_refusal(self, status: int) -> None:
        self.refused.append(status)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.methods.append(scope["method"])
        # As who looks for a client that left does: it has the server read on.
        await receive()
        await self.may_answer.acquire()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def answer(self) -> None:
        self.may_answer.release()
        for _ in range(8):
            await asyncio.sleep(0)


class Transport(asyncio.Transport):
    """A connection to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.reads, self.ended, self.closed = b"", True, False, False

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close
