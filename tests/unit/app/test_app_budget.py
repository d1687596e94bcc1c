"""The memory of large bodies: bounded together, without two waiting for each other."""

import asyncio
from collections.abc import Coroutine, MutableMapping
from typing import Any

import pytest

from app.errors import Busy
from app.protocols.budget import SPARED_BYTES, WAITING_LIMIT, Budget
from app.protocols.request import RequestHead, read_body


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_who_finds_no_room_is_told_to_come_again_and_holds_nothing() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=0.01, spared_bytes=0)
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
        budget = Budget(total_bytes=10, wait_s=10, spared_bytes=0)
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
        budget = Budget(total_bytes=1, wait_s=10, spared_bytes=0)
        await budget.grow("first", 1)
        waiting = [asyncio.create_task(budget.grow(number, 1)) for number in range(WAITING_LIMIT)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="too many"):
            await budget.grow("another", 1)
        for each in waiting:
            each.cancel()

    run(work())


def test_a_small_body_needs_no_room() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=0.01, spared_bytes=5)
        await budget.grow("large", 15)
        for _ in range(5):
            await budget.grow("small", 1)
        with pytest.raises(Busy):
            await budget.grow("small", 1)
        budget.release("small")
        budget.release("large")
        await budget.grow("another", 15)

    run(work())


def test_a_body_in_one_piece_counts_unless_it_is_small() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=0.01)
        await budget.grow("older", SPARED_BYTES + 10)

        async def read(count_bytes: int) -> None:
            head = RequestHead([(b"content-type", b"application/json")])

            async def receive() -> MutableMapping[str, Any]:
                return {"type": "http.request", "body": bytes(count_bytes)}

            assert len(await read_body(head, receive, 100_000, budget)) == count_bytes

        await read(SPARED_BYTES)
        with pytest.raises(Busy):
            await read(SPARED_BYTES + 1)

    run(work())


@pytest.mark.parametrize("stalled", ["oldest", "youngest"])
def test_who_holds_the_room_and_sends_nothing_gives_way_to_who_waits(stalled: str) -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=10, spared_bytes=0, stretch_s=0)
        if stalled == "youngest":
            await budget.grow("complete", 4)

        head = RequestHead([(b"content-type", b"application/json")])
        pieces = [{"type": "http.request", "body": b"123456", "more_body": True}]

        async def receive() -> MutableMapping[str, Any]:
            return pieces.pop() if pieces else await asyncio.Future()

        reading = asyncio.create_task(read_body(head, receive, 100, budget))
        reading.add_done_callback(lambda _: budget.release(head))
        await asyncio.sleep(0)
        await budget.grow("other", 5)
        with pytest.raises(Busy, match="slow to come"):
            await reading

    run(work())


def test_a_body_that_comes_or_waits_itself_keeps_its_room() -> None:
    async def work() -> None:
        budget = Budget(total_bytes=10, wait_s=0.01, spared_bytes=0)
        async with budget.reading("first"), budget.reading("second"):
            await budget.grow("first", 6)
            await budget.grow("second", 4)
            with pytest.raises(Busy, match="all the room"):
                await budget.grow("second", 1)

    run(work())
