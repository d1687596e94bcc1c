"""Whether probabilities are true on average, and the values of a regression in their mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.domain.description import Task
from pipelines.domain.verdict import Verdict
from pipelines.evaluation.gates.quality.answers import ClassAnswers, Unmeasured
from pipelines.evaluation.gates.quality.calibration import (
    CALIBRATION,
    CalibrationLimits,
    Found,
    Measured,
    bias,
    brier,
    calibration_error,
    equal_bins,
    judge,
)
from pipelines.evaluation.gates.quality.intervals import Estimate
from tests.support.world.records import policy
from tests.unit.evaluation.test_gates_by_task import world

FEW = {"gates.calibration.minimum_rows": 18}


def told(found: Found, rows: int = 1000, name: str = "ece") -> Verdict:
    (result,) = judge(Measured({name: found}, rows), CalibrationLimits())
    return result.verdict


def chances(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return true chances (n,), and what happened by them."""
    random = np.random.default_rng(seed)
    true = random.beta(1, 2.5, rows)
    return true, random.random(rows) < true


@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_a_perfect_model_has_no_error_on_average_however_few_rows_there_are(rows: int) -> None:
    found = [calibration_error(*chances(rows, seed)) for seed in range(60)]
    errors = [each.estimate.value for each in found]
    assert abs(float(np.mean(errors))) < 3 * np.std(errors) / 60**0.5
    assert sum(told(each) is Verdict.FAILED for each in found) <= 1


def test_probabilities_that_are_too_high_or_too_sure_fail() -> None:
    true, happened = chances(1500)
    odds = true / (1 - true)
    for odd in (3 * odds, odds**4):
        found = calibration_error(odd / (1 + odd), happened)
        assert told(found) is Verdict.FAILED
        assert len(found.table.rows) == 10


def test_a_model_right_at_the_limit_is_hardly_ever_failed() -> None:
    failed = 0
    for seed in range(60):
        true, _ = chances(500, seed)
        happened = np.random.default_rng(seed).random(500) < np.clip(true + 0.1, 0, 1)
        failed += told(calibration_error(true, happened)) is Verdict.FAILED
    assert failed <= 3


def test_of_several_classes_only_too_sure_answers_are_an_error() -> None:
    random = np.random.default_rng(1)
    right = random.random(2000) < 0.8
    timid, too_sure = np.full(2000, 0.6), np.full(2000, 0.99)
    assert calibration_error(timid, right, above_only=True).estimate.value == 0
    assert told(calibration_error(timid, right)) is Verdict.FAILED
    assert told(calibration_error(too_sure, right, above_only=True)) is Verdict.FAILED


def test_the_brier_score_is_the_mean_squared_error_and_about_the_sum_of_its_parts() -> None:
    true, happened = chances(4000)
    answers = ClassAnswers(
        ("No", "Yes"), 1, np.column_stack([1 - true, true]), (true > 0.5).astype(int), happened.astype(int)
    )
    found = brier(answers)
    assert found.estimate.value == pytest.approx(np.mean((true - happened) ** 2))
    reliability, resolution, uncertainty = (float(value or 0) for _, value in found.table.rows)
    assert found.estimate.value == pytest.approx(reliability - resolution + uncertainty, abs=0.005)
    assert uncertainty == pytest.approx(happened.mean() * (1 - happened.mean()))
    assert told(found, name="brier") is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("interval", "name", "verdict"),
    [
        ((0.1, 0.3), "ece", Verdict.PASSED),
        ((0.1001, 0.3), "ece", Verdict.FAILED),
        ((0.2001, 0.3), "bias", Verdict.FAILED),
        ((-0.4, -0.2001), "bias", Verdict.FAILED),
        ((-0.4, -0.2), "bias", Verdict.PASSED),
        ((-0.4, 0.4), "bias", Verdict.PASSED),
    ],
)
def test_it_fails_only_where_the_whole_interval_is_beyond_the_limit(
    interval: tuple[float, float], name: str, verdict: Verdict
) -> None:
    table = bias(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert isinstance(table, Found)
    found = replace(table, estimate=Estimate(sum(interval) / 2, interval))
    assert told(found, name=name) is verdict
    assert told(found, rows=29, name=name) is Verdict.INCONCLUSIVE


def test_the_bias_of_a_regression_is_in_standard_deviations_of_its_target() -> None:
    truth = np.random.default_rng(2).normal(50, 10, 1000)
    noise = np.random.default_rng(3).normal(0, 3, 1000)
    low, fair = bias(truth, truth + noise - 5), bias(truth, truth + noise)
    assert isinstance(low, Found)
    assert isinstance(fair, Found)
    assert low.estimate.value == pytest.approx(-0.5, abs=0.05)
    assert (told(low, name="bias"), told(fair, name="bias")) == (Verdict.FAILED, Verdict.PASSED)
    constant = bias(np.ones(50), np.ones(50))
    assert isinstance(constant, Unmeasured)
    assert constant.verdict is Verdict.INCONCLUSIVE


def test_bins_have_as_many_rows_each_and_equal_answers_share_one() -> None:
    assert np.bincount(equal_bins(np.random.default_rng(4).random(1000))).tolist() == [100] * 10
    assert len(np.unique(equal_bins(np.random.default_rng(4).random(50)))) == 5
    assert equal_bins(np.full(100, 0.3)).tolist() == [0] * 100
    assert equal_bins(np.array([0.2])).tolist() == [0]


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_measured_through_the_gate(tmp_path: Path, task: Task) -> None:
    names = {"calibration.bias"} if task is Task.REGRESSION else {"calibration.ece", "calibration.brier"}
    results = {result.name: result for result in CALIBRATION.results(world(tmp_path, task), policy(**FEW))}
    assert set(results) == names
    assert all(result.table for result in results.values())
    measured = world(tmp_path, task)
    everything = replace(measured.candidate, trained_on=np.ones(18, dtype=bool))
    (nothing,) = CALIBRATION.results(replace(measured, candidate=everything), policy())
    assert (nothing.name, nothing.verdict) == ("calibration", Verdict.INCONCLUSIVE)
