"""Rows that arrive together are scored together, and each gets its own answer or its own failure."""

import asyncio

import msgspec
import pytest

from app.model.bundle import Answer, read_bundle
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
