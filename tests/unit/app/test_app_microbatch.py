"""Rows that arrive together are scored together; each gets its own answer or failure, or is told that too many wait."""

import asyncio
import time

import msgspec
import pytest

from app.errors import Busy
from app.model.bundle import read_bundle
from app.model.description import Answer
from app.model.microbatch import MicroBatcher
from app.model.scoring import Scorer, load
from tests.support.world.bundles import make_bundle, valid_row

FAILS = "atlantis"


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    path, digest = make_bundle(tmp_path_factory.mktemp("bundles"), fails_on_region=FAILS)
    return load(read_bundle(path, digest=digest))


def _row(scorer: Scorer, **changes: object) -> msgspec.Struct:
    return scorer.schema.decode_row(msgspec.json.encode(valid_row(**changes)))


def _score_together(scorer: Scorer, rows: list[msgspec.Struct]) -> list[Answer | BaseException]:
    async def together() -> list[Answer | BaseException]:
        batcher = MicroBatcher(scorer)
        async with asyncio.timeout(10):
            return await asyncio.gather(*map(batcher.score, rows), return_exceptions=True)

    return asyncio.run(together())


def test_each_row_gets_its_own_answer(scorer: Scorer) -> None:
    rows = [_row(scorer, income=1000.0 + 100 * number) for number in range(40)]
    for answer, row in zip(_score_together(scorer, rows), rows, strict=True):
        alone = scorer.score_row(row)
        assert isinstance(answer, Answer)
        assert answer.prediction == alone.prediction
        assert answer.probability == pytest.approx(alone.probability, abs=1e-6)


def test_row_on_which_the_model_fails_fails_alone(scorer: Scorer) -> None:
    rows = [_row(scorer), _row(scorer, home_region=FAILS), _row(scorer)]
    first, failed, last = _score_together(scorer, rows)
    assert isinstance(failed, Exception)
    assert first == last == scorer.score_row(rows[0])


def test_rows_are_scored_after_a_failure_and_one_by_one(scorer: Scorer) -> None:
    async def in_turn() -> list[Answer]:
        batcher = MicroBatcher(scorer)
        with pytest.raises(Exception, match="Unknown Category"):
            await batcher.score(_row(scorer, home_region=FAILS))
        return [await batcher.score(_row(scorer)) for _ in range(3)]

    assert asyncio.run(in_turn()) == [scorer.score_row(_row(scorer))] * 3


def test_request_given_up_does_not_take_the_others_with_it(scorer: Scorer) -> None:
    async def one_leaves() -> list[Answer]:
        batcher = MicroBatcher(scorer)
        before, leaving, after = (asyncio.ensure_future(batcher.score(_row(scorer))) for _ in range(3))
        await asyncio.sleep(0)
        leaving.cancel()
        async with asyncio.timeout(10):
            return await asyncio.gather(before, after)

    assert asyncio.run(one_leaves()) == [scorer.score_row(_row(scorer))] * 2


class _Slow:
    """A scorer whose rows take seconds of the processor each, or of the clock alone."""

    def __init__(self, scorer: Scorer, *, works_s: float = 0.0, rests_s: float = 0.0) -> None:
        self._scorer, self._works_s, self._rests_s = scorer, works_s, rests_s

    def score_row(self, row: msgspec.Struct) -> Answer:
        until = time.thread_time() + self._works_s
        while time.thread_time() < until:
            pass
        time.sleep(self._rests_s)
        return self._scorer.score_row(row)

    def score_rows(self, rows: list[msgspec.Struct]) -> list[Answer]:
        return [self.score_row(row) for row in rows]


def _score_in_a_stream(scorer: _Slow, row: msgspec.Struct, count: int) -> list[Answer | BaseException]:
    """Return what rows get that come one after the other, whether or not those before have their answers."""

    async def stream() -> list[Answer | BaseException]:
        batcher = MicroBatcher(scorer)  # type: ignore[arg-type]
        asked = []
        for _ in range(count):
            asked += [asyncio.ensure_future(batcher.score(row)) for _ in range(3)]
            await asyncio.sleep(0)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(stream())


def test_a_row_behind_more_work_than_can_be_done_in_time_is_refused(scorer: Scorer) -> None:
    answers = _score_in_a_stream(_Slow(scorer, works_s=0.02), _row(scorer), 40)
    assert isinstance(answers[0], Answer)
    assert isinstance(answers[-1], Busy)
    assert all(isinstance(answer, Answer | Busy) for answer in answers)


def test_rows_that_wait_for_a_replica_without_a_processor_are_answered(scorer: Scorer) -> None:
    answers = _score_in_a_stream(_Slow(scorer, rests_s=0.02), _row(scorer), 40)
    assert all(isinstance(answer, Answer) for answer in answers)
