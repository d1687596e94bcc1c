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
from app.protocols.budget import Budget
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


async def post(scorer: Any, *, leaves: bool = False, deadline_s: float = 30) -> tuple[int, dict[str, Any]]:
    """Return the answer to BODY; the client leaves as soon as it has sent it, or never."""
    bodies = [BODY]

    async def receive() -> MutableMapping[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop()}
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    predictor = Predictor(scorer, Settings(), Budget(), deadline_s=deadline_s)
    async with asyncio.timeout(60):
        reply = await predictor.batch(RequestHead([(b"content-type", b"application/json")]), receive)
    return reply.status, json.loads(reply.body)


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
