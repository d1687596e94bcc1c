"""Bounds the memory of all large bodies and answers in flight together.

Who would exceed it waits, and its client with it, since nothing more is read from its connection. The request that has
been under way for longest never waits: so there is always one that comes to its end and gives its bytes back. A client
that holds much and sends little loses its room to who waits; and what is small needs none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass

from app.errors import Busy

TOTAL_BYTES = 64 << 20
# As much of each request is not counted, so that a row never waits for batches.
SPARED_BYTES = 16 << 10
# So long a request waits for others to be done, and so many of them, before it is refused.
WAIT_S = 5.0
WAITING_LIMIT = 64
# Who is slower than this while others wait for room gives way to them.
_STRETCH_BYTES = 1 << 20
_STRETCH_S = 2.0
_LOOK_S = 0.25


@dataclass(slots=True)
class _Reading:
    """A body that is yet to come whole: when its client last began a stretch, and what is left of that."""

    ending: asyncio.Timeout
    since_s: float
    left_bytes: int = _STRETCH_BYTES


class Budget:
    """The bytes that the requests of one replica may hold; one event loop only."""

    def __init__(
        self,
        total_bytes: int = TOTAL_BYTES,
        wait_s: float = WAIT_S,
        *,
        spared_bytes: int = SPARED_BYTES,
        stretch_s: float = _STRETCH_S,
    ) -> None:
        self._left_bytes = total_bytes
        self._wait_s = wait_s
        self._spared_bytes = spared_bytes
        self._stretch_s = stretch_s
        # Of each request, so much is not counted yet.
        self._spare_bytes: dict[Hashable, int] = {}
        # In the order in which they began.
        self._held_bytes: dict[Hashable, int] = {}
        self._readings: dict[Hashable, _Reading] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    async def grow(self, request: Hashable, count_bytes: int) -> None:
        """Let a request hold so much more, as soon as there is room; raise Busy when there is none in time."""
        count_bytes = self._counted(request, count_bytes)
        if not count_bytes:
            return
        self._held_bytes.setdefault(request, 0)
        # While it waits here, its client is not who is slow.
        reading = self._readings.pop(request, None)
        if not self._has_room(request, count_bytes):
            await self._until_room(request, count_bytes)
            if reading:
                reading.since_s = asyncio.get_running_loop().time()
        self._held_bytes[request] += count_bytes
        self._left_bytes -= count_bytes
        if reading:
            self._readings[request] = self._after(reading, count_bytes)

    @contextlib.asynccontextmanager
    async def reading(self, request: Hashable) -> AsyncIterator[None]:
        """Let a client send a body meanwhile; raise Busy when it holds what others wait for, and is slow."""
        try:
            async with asyncio.timeout(None) as ending:
                self._readings[request] = _Reading(ending, asyncio.get_running_loop().time())
                yield
        except TimeoutError:
            raise Busy("others wait for the room that this body takes, and the rest of it is slow to come") from None
        finally:
            self._readings.pop(request, None)

    def release(self, request: Hashable) -> None:
        """Take back all that a request holds, and let the others look again."""
        self._spare_bytes.pop(request, None)
        held_bytes = self._held_bytes.pop(request, None)
        if held_bytes is None:
            return
        self._left_bytes += held_bytes
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    def _counted(self, request: Hashable, count_bytes: int) -> int:
        spare_bytes = self._spare_bytes.get(request, self._spared_bytes)
        self._spare_bytes[request] = max(0, spare_bytes - count_bytes)
        return max(0, count_bytes - spare_bytes)

    def _after(self, reading: _Reading, count_bytes: int) -> _Reading:
        if count_bytes < reading.left_bytes:
            reading.left_bytes -= count_bytes
            return reading
        return _Reading(reading.ending, asyncio.get_running_loop().time())

    def _has_room(self, request: Hashable, count_bytes: int) -> bool:
        return count_bytes <= self._left_bytes or request is next(iter(self._held_bytes))

    async def _until_room(self, request: Hashable, count_bytes: int) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            raise Busy("too many large bodies are waiting")
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(request, count_bytes):
                    self._end_slowest()
                    await self._until_release()
        except TimeoutError:
            raise Busy("the bodies of other requests take all the room that there is") from None

    async def _until_release(self) -> None:
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(released)
        try:
            await asyncio.wait([released], timeout=_LOOK_S)
        finally:
            self._waiting.discard(released)

    def _end_slowest(self) -> None:
        now_s = asyncio.get_running_loop().time()
        slow = [request for request, each in self._readings.items() if now_s - each.since_s > self._stretch_s]
        holders = [request for request in slow if self._held_bytes.get(request)]
        if holders:
            slowest = min(holders, key=lambda request: self._readings[request].since_s)
            self._readings.pop(slowest).ending.reschedule(now_s)
