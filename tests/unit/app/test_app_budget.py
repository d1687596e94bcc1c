"""The memory of large bodies: bounded together, without two waiting for each other."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from app.errors import Busy
from app.protocols.budget import WAITING_LIMIT, Budget


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_who_finds_no_room_is_told_to_come_again_and_holds_nothing() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=0.01)
        await budget.grow("first", 10)
        with pytest.raises(Busy) as refused:
            await budget.grow("second", 1)
        assert refused.value.status == 503
        budget.release("second")
        budget.release("first")
        await budget.grow("third", 1)
        await budget.grow("fourth", 9)

    run(work())


def test_the_longest_under_way_never_waits_and_the_next_takes_its_place() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=10)
        await budget.grow("first", 6)
        await budget.grow("second", 4)
        waiting = asyncio.create_task(budget.grow("second", 20))
        await asyncio.sleep(0)
        await budget.grow("first", 100)
        assert not waiting.done()
        budget.release("first")
        await waiting

    run(work())


def test_so_many_wait_and_no_more() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=1, wait_s=10)
        await budget.grow("first", 1)
        waiting = [asyncio.create_task(budget.grow(number, 1)) for number in range(WAITING_LIMIT)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="too many"):
            await budget.grow("another", 1)
        for each in waiting:
            each.cancel()

    run(work())
