"""A version can't choose which rows judge it by saying that it was trained on the others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.domain.description import Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.data.training_rows import (
    TRAINING_ROWS,
    Harder,
    Overlap,
    Overlaps,
    TrainingRowsLimits,
    judge,
)
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.intervals import Estimate
from tests.support.world.records import policy
from tests.unit.evaluation.test_gates_by_task import world

NAME = "training_rows.left_out"


def by_name(results: list[GateResult]) -> dict[str, GateResult]:
    return {result.name: result for result in results}


@pytest.mark.parametrize(
    ("left_out", "limits", "verdict"),
    [
        (0, {}, Verdict.PASSED),
        (50, {}, Verdict.PASSED),
        (51, {}, Verdict.INCONCLUSIVE),
        (51, {"most_left_out": 0.6}, Verdict.PASSED),
        (100, {"most_left_out": 1.0}, Verdict.PASSED),
    ],
)
def test_so_many_rows_of_the_candidate_may_be_left_out(left_out: int, limits: dict[str, Any], verdict: Verdict) -> None:
    found = Overlaps({"candidate": Overlap(100, left_out), "champion": Overlap(100, 100)})
    results = by_name(judge(found, TrainingRowsLimits.model_validate(limits)))
    assert results["training_rows.candidate"].verdict is verdict
    assert results["training_rows.champion"].verdict is Verdict.PASSED
    if verdict is Verdict.INCONCLUSIVE:
        assert "51%, more than 50%" in results["training_rows.candidate"].message


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.4, 0.6), Verdict.PASSED), ((0.55, 0.9), Verdict.PASSED), ((0.551, 0.9), Verdict.INCONCLUSIVE)],
)
def test_rows_left_out_that_are_proven_the_harder_ones_hold_a_version(
    interval: tuple[float, float], verdict: Verdict
) -> None:
    harder = Harder(Estimate(sum(interval) / 2, interval), 40, 60)
    result = by_name(judge(Overlaps({"candidate": Overlap(100, 40)}, harder), TrainingRowsLimits()))[NAME]
    assert (result.verdict, result.interval) == (verdict, interval)


def often(measured: Offline) -> Offline:
    """Return the same world with each row ten times."""
    frame = pd.concat([measured.snapshot.frame] * 10, ignore_index=True)
    snapshot = replace(measured.snapshot, frame=frame)
    return replace(measured, snapshot=snapshot, candidate=replace(measured.candidate, snapshot=snapshot), champion=None)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("chosen", ["hard", "easy", "any", "few"])
def test_a_candidate_that_leaves_out_what_it_gets_wrong_is_held(tmp_path: Path, task: Task, chosen: str) -> None:
    measured = often(world(tmp_path, task))
    off = np.arange(180) < 60
    if task is Task.REGRESSION:
        truth = measured.candidate.scores.values + off
    else:
        answered = measured.candidate.scores.labels
        assert answered is not None
        first, other = map(label_text, measured.candidate.description.output.classes[:2])
        truth = np.where(off, np.where(answered == first, other, first), answered)
    frame = measured.snapshot.frame.assign(y=truth)
    order = np.argsort(off + np.random.default_rng(1).normal(0, 1e-3, 180))
    rows = {"hard": order[-60:], "easy": order[:60], "any": order[::3], "few": order[-9:]}[chosen]
    trained_on = np.isin(np.arange(180), rows)
    snapshot = replace(measured.snapshot, frame=frame)
    candidate = replace(measured.candidate, snapshot=snapshot, trained_on=trained_on)
    result = by_name(TRAINING_ROWS.results(replace(measured, snapshot=snapshot, candidate=candidate), policy()))[NAME]
    expected = {"hard": Verdict.INCONCLUSIVE, "few": Verdict.NOT_APPLICABLE}.get(chosen, Verdict.PASSED)
    assert result.verdict is expected, result.message
    if chosen == "few":
        assert "fewer than 10 rows on a side" in result.message


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
def test_rows_that_no_answer_can_be_right_on_are_the_hardest(tmp_path: Path, task: Task) -> None:
    measured = often(world(tmp_path, task))
    left_out = np.arange(180) < 60
    unknown = np.nan if task is Task.REGRESSION else "a class that it lacks"
    frame = measured.snapshot.frame
    frame = frame.assign(y=np.where(left_out, unknown, frame["y"].to_numpy()))
    snapshot = replace(measured.snapshot, frame=frame)
    candidate = replace(measured.candidate, snapshot=snapshot, trained_on=left_out)
    result = by_name(TRAINING_ROWS.results(replace(measured, snapshot=snapshot, candidate=candidate), policy()))[NAME]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "a chance of 1.0000" in result.message
