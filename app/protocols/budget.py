"""Bounds the memory of all large bodies and answers in flight together.

Who would exceed it waits, and its client with it, since nothing more is read from its connection. The request that has
been under way for longest never waits: so there is always one that comes to its end and gives its bytes back.
"""

import asyncio
from collections.abc import Hashable

from app.errors import Busy

TOTAL_BYTES = 64 << 20
# So long a request waits for others to be done, and so many of them, before it is refused.
WAIT_S = 5.0
WAITING_LIMIT = 64


class Budget:
    """The bytes that the requests of one replica may hold; one event loop only."""

    def __init__(self, total_bytes: int = TOTAL_BYTES, wait_s: float = WAIT_S) -> None:
        self._left_bytes = total_bytes
        self._wait_s = wait_s
        # In the order in which they began.
        self._held_bytes: dict[Hashable, int] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    async def grow(self, request: Hashable, count_bytes: int) -> None:
        """Let a request hold so much more, as soon as there is room; raise Busy when there is none in time."""
        self._held_bytes.setdefault(request, 0)
        if not self._has_room(request, count_bytes):
            await self._until_room(request, count_bytes)
        self._held_bytes[request] += count_bytes
        self._left_bytes -= count_bytes

    def release(self, request: Hashable) -> None:
        """Take back all that a request holds, and let the others look again."""
        held_bytes = self._held_bytes.pop(request, None)
        if held_bytes is None:
            return
        self._left_bytes += held_bytes
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    def _has_room(self, request: Hashable, count_bytes: int) -> bool:
        return count_bytes <= self._left_bytes or request is next(iter(self._held_bytes))

    async def _until_room(self, request: Hashable, count_bytes: int) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            raise Busy("too many large bodies are waiting")
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(request, count_bytes):
                    await self._until_release()
        except TimeoutError:
            raise Busy("the bodies of other requests take all the room that there is") from None

    async def _until_release(self) -> None:
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(released)
        try:
            await released
        finally:
            self._waiting.discard(released)
