"""A batch gives way, ends with its client, and has a deadline."""

import asyncio
import json
from collections.abc import MutableMapping, Sequence
from typing import Any

import msgspec
import pytest

from app.model.bundle import read_bundle
from app.model.description import Answer
from app.model.scoring import Scorer, load
from app.model.slices import WHOLE_BYTES
from app.protocols.budget import SPARED_BYTES, Budget
from app.protocols.native import Predictor
from app.protocols.request import ClientLeft, RequestHead
from app.settings import Settings
from tests.support.world.bundles import make_bundle, valid_row

ROWS = 5000
BODY = json.dumps({"rows": [valid_row()] * ROWS}).encode()


class CountingScorer:
    """A scorer that notes how many rows each of its runs had."""

    def __init__(self, scorer: Scorer) -> None:
        self.schema, self.task = scorer.schema, scorer.task
        self.runs: list[int] = []
        self._scorer = scorer

    def score_rows(self, rows: Sequence[msgspec.Struct]) -> list[Answer]:
        self.runs.append(len(rows))
        return self._scorer.score_rows(rows)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    path, digest = make_bundle(tmp_path_factory.mktemp("bundles"))
    return load(read_bundle(path, digest=digest))


@pytest.fixture
def scorer(toy: Scorer) -> Any:
    return CountingScorer(toy)


async def post(
    scorer: Any, *, body: bytes = BODY, leaves: bool = False, deadline_s: float = 30, budget: Budget | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the answer to a body; the client leaves as soon as it has sent it, or never."""
    bodies, budget = [body], budget or Budget()
    head = RequestHead([(b"content-type", b"application/json")])

    async def receive() -> MutableMapping[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop()}
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    predictor = Predictor(scorer, Settings(), budget, deadline_s=deadline_s)
    try:
        async with asyncio.timeout(60):
            reply = await predictor.batch(head, receive)
    finally:
        budget.release(head)
    return reply.status, json.loads(reply.body)


def budget_with(room_bytes: int, *, wait_s: float) -> Budget:
    """Return a budget in which another request, which began before, leaves so much room."""
    budget = Budget(1 << 30, wait_s)
    asyncio.run(budget.grow("another", (1 << 30) - room_bytes + SPARED_BYTES))
    return budget


def test_a_batch_is_scored_in_short_runs_between_which_others_have_their_turn(scorer: Any) -> None:
    async def counting_turns() -> tuple[int, tuple[int, dict[str, Any]]]:
        turns = 0
        answered = asyncio.create_task(post(scorer))
        while not answered.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, answered.result()

    turns, (status, body) = asyncio.run(counting_turns())
    assert (status, len(body["predictions"]), sum(scorer.runs)) == (200, ROWS, ROWS)
    assert max(scorer.runs) <= 512
    assert turns >= len(scorer.runs)


def test_the_work_for_a_client_that_has_left_ends(scorer: Any) -> None:
    with pytest.raises(ClientLeft):
        asyncio.run(post(scorer, leaves=True))
    assert sum(scorer.runs) < ROWS


def test_a_batch_that_is_not_done_in_time_is_refused(scorer: Any) -> None:
    status, body = asyncio.run(post(scorer, deadline_s=0))
    assert (status, body["error"]["code"]) == (504, "deadline")


def test_answers_count_as_they_grow_and_end_where_there_is_no_room(scorer: Any) -> None:
    status, body = asyncio.run(post(scorer, budget=budget_with(len(BODY) + 150_000, wait_s=0)))
    assert (status, body["error"]["code"]) == (503, "busy")
    assert 0 < sum(scorer.runs) < ROWS


def test_the_rows_of_a_body_in_one_piece_count_before_they_are_decoded(scorer: Any) -> None:
    small = json.dumps({"rows": [valid_row()] * 500}).encode()
    assert len(small) < WHOLE_BYTES
    status, body = asyncio.run(post(scorer, body=small, budget=budget_with(2 * len(small), wait_s=0)))
    assert (status, body["error"]["code"], scorer.runs) == (503, "busy", [])


def test_batches_that_each_hold_a_part_of_the_room_do_not_wait_for_each_other(scorer: Any) -> None:
    async def together() -> list[tuple[int, dict[str, Any]]]:
        budget = Budget(2 * len(BODY) + 400_000, 30)
        return await asyncio.gather(*(post(scorer, budget=budget) for _ in range(2)))

    answers = asyncio.run(together())
    assert [(status, len(body["predictions"])) for status, body in answers] == [(200, ROWS)] * 2
    assert answers[0][1]["predictions"] == answers[1][1]["predictions"]


def test_a_batch_whose_answers_are_too_large_is_refused(scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.protocols.native.ANSWER_LIMIT_BYTES", 100_000)
    status, body = asyncio.run(post(scorer))
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert "fewer rows" in body["error"]["message"] and sum(scorer.runs) < ROWS
