"""The metrics of each task, their intervals and limits, and what answers are worth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.quality import metrics, shares
from pipelines.evaluation.gates.quality.answers import ClassAnswers, Unmeasured
from pipelines.evaluation.gates.quality.intervals import MOST_RESAMPLED, Metric, better, estimated
from pipelines.evaluation.gates.quality.measures import (
    AUC,
    AVERAGE_PRECISION,
    MACRO_AUC,
    MAE,
    MEAN,
    R2,
    RMSE,
    Found,
    of_classes,
    of_numbers,
    share_metric,
)
from pipelines.evaluation.gates.quality.quality import QUALITY, Measured, QualityLimits, judge
from pipelines.evaluation.gates.quality.shares import Share
from pipelines.evaluation.gates.quality.value import Value, worth_of_classes, worth_of_numbers
from tests.support.world.records import policy
from tests.unit.evaluation.test_gates_by_task import world

RNG = np.random.default_rng(11)


def by_name(results: list[GateResult]) -> dict[str, GateResult]:
    return {result.name: result for result in results}


def two_classes(rows: int = 300) -> ClassAnswers:
    truth = np.random.default_rng(1).integers(0, 2, rows)
    positive = np.clip(0.5 + 0.25 * (truth - 0.5) + np.random.default_rng(2).normal(0, 0.2, rows), 0.01, 0.99).round(2)
    return ClassAnswers(
        ("No", "Yes"), 1, np.column_stack([1 - positive, positive]), (positive > 0.6).astype(int), truth
    )


def four_classes(rows: int = 400) -> ClassAnswers:
    truth = np.random.default_rng(3).integers(0, 4, rows)
    odds = np.exp(np.eye(4)[truth] + np.random.default_rng(4).normal(0, 1, (rows, 4)))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return ClassAnswers(("a", "b", "c", "d"), None, probabilities, probabilities.argmax(axis=1), truth)


def test_metrics_of_two_classes_are_those_of_scikit_learn() -> None:
    answers = two_classes()
    truth, scores = answers.truth, answers.probabilities[:, 1]
    found = {name: each.value for name, each in of_classes(answers).items()}
    assert found == pytest.approx(
        {
            "precision": reference.precision_score(truth, answers.predicted),
            "recall": reference.recall_score(truth, answers.predicted),
            "f1": reference.f1_score(truth, answers.predicted),
            "auc": reference.roc_auc_score(truth, scores),
            "average_precision": reference.average_precision_score(truth, scores),
            "log_loss": reference.log_loss(truth, scores),
        },
        abs=1e-12,
    )


def test_metrics_of_several_classes_are_means_over_classes_and_those_of_a_regression_in_its_unit() -> None:
    answers = four_classes()
    truth, predicted = answers.truth, answers.predicted
    found = {name: each.value for name, each in of_classes(answers).items()}
    assert found == pytest.approx(
        {
            "precision": reference.precision_score(truth, predicted, average="macro"),
            "recall": reference.recall_score(truth, predicted, average="macro"),
            "f1": reference.f1_score(truth, predicted, average="macro"),
            "auc": reference.roc_auc_score(truth, answers.probabilities, multi_class="ovr"),
            "log_loss": reference.log_loss(truth, answers.probabilities),
        },
        abs=1e-12,
    )
    values = truth * 1.1
    numbers = {name: each.value for name, each in of_numbers(truth, values).items()}
    assert numbers["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, values))
    assert numbers["mae"] == pytest.approx(reference.mean_absolute_error(truth, values))


def only(answers: ClassAnswers, rows: np.ndarray) -> ClassAnswers:
    return replace(
        answers,
        probabilities=answers.probabilities[rows],
        predicted=answers.predicted[rows],
        truth=answers.truth[rows],
    )


BY_CLASS = ("precision", "recall", "f1", "auc")


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "never answered"])
def test_a_class_that_no_row_is_of_leaves_what_is_measured_by_class_inconclusive(answered: bool) -> None:
    answers = four_classes()
    without = only(answers, (answers.truth != 3) & (answered | (answers.predicted != 3)))
    limits = QualityLimits.model_validate({"minimum": dict.fromkeys(BY_CLASS, 0.0), "maximum": {"log_loss": 9}})

    results = by_name(judge(Measured(of_classes(without), len(without.truth)), limits))

    assert {name: results[f"quality.{name}"].verdict for name in BY_CLASS} == dict.fromkeys(
        BY_CLASS, Verdict.INCONCLUSIVE
    )
    assert results["quality.auc"].message == "INCONCLUSIVE: quality.auc: no row is of the class 'd'"
    assert results["quality.log_loss"].verdict is Verdict.PASSED
    assert results["quality.f1"].table is not None


def test_a_class_that_no_row_is_of_stops_nothing_that_has_no_limit() -> None:
    answers = four_classes()
    without = only(answers, answers.truth < 2)

    shown = by_name(judge(Measured(of_classes(without), len(without.truth)), QualityLimits()))

    assert (shown["quality.f1"].verdict, shown["quality.auc"].verdict) == (Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE)
    assert shown["quality.f1"].message == "quality.f1: no row is of the classes 'c', 'd' (shown, not judged)"


def test_of_two_classes_nothing_is_measured_by_class_without_rows_of_both() -> None:
    answers = two_classes()
    for missing in (0, 1):
        found = of_classes(only(answers, answers.truth != missing))
        assert {each.value for name, each in found.items() if name != "log_loss"} == {None}


def test_of_many_classes_that_no_row_is_of_some_are_named() -> None:
    answers = four_classes()
    many = replace(
        answers,
        classes=tuple("abcdefghijkl"),
        probabilities=np.pad(answers.probabilities, ((0, 0), (0, 8))),
    )
    assert of_classes(many)["auc"].why == "no row is of the classes 'e', 'f', 'g', 'h', 'i' and of 3 more"


SIZED = 1600
TIED = RNG.normal(0, 1, SIZED).round(1)
CLASSES = RNG.integers(0, 3, SIZED)
GUESSES = np.where(RNG.random(SIZED) < 0.6, CLASSES, RNG.integers(0, 3, SIZED))
VALUES = TIED * 2 + RNG.normal(0, 1, SIZED)
MATRIX = np.exp(np.eye(3)[CLASSES] + RNG.normal(0, 1, (SIZED, 3)))


@pytest.mark.parametrize(
    ("metric", "answers", "truth"),
    [
        (AUC, TIED, RNG.random(SIZED) < 1 / (1 + np.exp(-TIED))),
        (AVERAGE_PRECISION, TIED, RNG.random(SIZED) < 0.2 / (1 + np.exp(-TIED))),
        (MACRO_AUC, MATRIX / MATRIX.sum(axis=1, keepdims=True), CLASSES),
        (share_metric(Share.F1, 3), GUESSES, CLASSES),
        (share_metric(Share.PRECISION, 3), GUESSES, CLASSES),
        (share_metric(Share.RECALL, 3, 2), GUESSES, CLASSES),
        (RMSE, TIED, VALUES),
        (MAE, TIED, VALUES),
        (R2, TIED * 2, VALUES),
        (MEAN, VALUES**2, VALUES),
    ],
    ids=["auc", "average_precision", "macro_auc", "f1", "precision", "recall", "rmse", "mae", "r2", "mean"],
)
def test_many_rows_have_the_interval_that_resamples_would_give(
    metric: Metric, answers: np.ndarray, truth: np.ndarray
) -> None:
    resampled = estimated(metric, answers, truth)
    influence = metric.influence(answers, truth)
    assert resampled is not None
    low, high = resampled.interval
    assert 2 * 1.96 * influence.std() / SIZED**0.5 == pytest.approx(high - low, rel=0.1)
    assert influence.mean() == pytest.approx(0, abs=1e-9)
    # One row taken twice moves the metric by its influence / n, and by no more than terms in 1 / n^2.
    rows = np.r_[np.arange(SIZED), 7]
    moved = metric.value(answers[rows], truth[rows])
    assert moved is not None
    assert moved - resampled.value == pytest.approx(influence[7] / SIZED, abs=100 / SIZED**2)


def test_more_rows_than_are_resampled_give_the_same_value_and_a_narrow_interval() -> None:
    truth = np.random.default_rng(5).random(MOST_RESAMPLED + 1) < 0.3
    scores = truth + np.random.default_rng(6).normal(0, 1, len(truth))
    found = estimated(AUC, scores, truth)
    assert found is not None
    assert found.value == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-12)
    assert 0.01 < found.interval[1] - found.interval[0] < 0.05
    worse = scores + np.random.default_rng(7).normal(0, 1, len(truth))
    for relative, metric, ours, theirs in [(False, AUC, worse, scores), (True, MAE, worse, scores)]:
        many = better(metric, ours, theirs, truth, relative=relative)
        few = better(metric, ours[:MOST_RESAMPLED], theirs[:MOST_RESAMPLED], truth[:MOST_RESAMPLED], relative=relative)
        assert many is not None
        assert few is not None
        assert many.interval == pytest.approx(few.interval, abs=0.003)


MEASURED = Measured({"f1": Found(0.6, (0.55, 0.65)), "log_loss": Found(0.5, (0.4, 0.6))}, rows=100)


@pytest.mark.parametrize(
    ("limits", "f1", "log_loss"),
    [
        ({}, Verdict.NOT_APPLICABLE, Verdict.NOT_APPLICABLE),
        ({"minimum": {"f1": 0.6}, "maximum": {"log_loss": 0.5}}, Verdict.PASSED, Verdict.PASSED),
        ({"minimum": {"f1": 0.61}, "maximum": {"log_loss": 0.49}}, Verdict.FAILED, Verdict.FAILED),
        ({"minimum": {"f1": 0.0}}, Verdict.PASSED, Verdict.NOT_APPLICABLE),
        ({"minimum": {"f1": 0.1}, "minimum_rows": 101}, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE),
    ],
)
def test_a_metric_is_judged_by_its_limit_and_shown_without(
    limits: dict[str, Any], f1: Verdict, log_loss: Verdict
) -> None:
    results = by_name(judge(MEASURED, QualityLimits.model_validate(limits)))
    assert (results["quality.f1"].verdict, results["quality.log_loss"].verdict) == (f1, log_loss)
    assert "0.6000" in results["quality.f1"].message
    assert "95 % interval 0.5500 to 0.6500" in results["quality.f1"].message


def test_words_of_a_metric() -> None:
    limits = QualityLimits.model_validate({"minimum": {"f1": 0.7}})
    failed, shown = judge(MEASURED, limits)
    assert failed.message == "FAIL: quality.f1=0.6000 < 0.7, 95 % interval 0.5500 to 0.6500"
    assert shown.message == "quality.log_loss=0.5000, 95 % interval 0.4000 to 0.6000 (shown, not judged)"
    assert (failed.observed, failed.interval, failed.limit) == (0.6, (0.55, 0.65), 0.7)


def test_a_precision_of_no_answer_is_not_defined() -> None:
    answers = replace(two_classes(), predicted=np.zeros(300, dtype=int))
    found = of_classes(answers)
    assert (found["precision"].value, found["recall"].value) == (None, 0.0)
    measured = Measured(found, 300)
    shown = by_name(judge(measured, QualityLimits()))["quality.precision"]
    judged = by_name(judge(measured, QualityLimits.model_validate({"minimum": {"precision": 0.1}})))
    assert shown.verdict is Verdict.NOT_APPLICABLE
    assert "no row is answered with 'Yes'" in shown.message
    assert judged["quality.precision"].verdict is Verdict.INCONCLUSIVE


COSTS = {"Yes": {"No": 100}, "No": {"Yes": 10, "No": -1}}


def test_the_value_of_a_row_is_what_its_answers_cost_taken_negative() -> None:
    answers = two_classes()
    found = worth_of_classes(answers, Value.model_validate({"costs": COSTS, "minimum": -20}))
    assert isinstance(found, Found)
    pairs = list(zip(answers.truth, answers.predicted, strict=True))
    missed, alarms, rest = (pairs.count(pair) for pair in ((1, 0), (0, 1), (0, 0)))
    assert found.value == pytest.approx(-(100 * missed + 10 * alarms - rest) / 300)
    assert "where always answering 'Yes' is worth -4.86667" in found.beside
    numbers = worth_of_numbers(np.array([1.0, 2.0]), np.array([3.0, 1.0]), Value(over=1.0, under=10.0))
    assert isinstance(numbers, Found)
    assert numbers.value == -6.0


@pytest.mark.parametrize(
    ("value", "verdict", "said"),
    [
        (None, Verdict.NOT_APPLICABLE, "the policy gives no costs"),
        ({"over": 1}, Verdict.NOT_APPLICABLE, "the policy gives no costs"),
        ({"costs": {True: {"No": 1}}}, Verdict.ERROR, "costs name 'true', and the classes are 'No', 'Yes'"),
    ],
)
def test_a_value_that_can_not_be_measured_says_why(value: Any, verdict: Verdict, said: str) -> None:
    found = worth_of_classes(two_classes(), value and Value.model_validate(value))
    assert isinstance(found, Unmeasured)
    assert (found.verdict, said in found.why) == (verdict, True)


def test_costs_of_classes_that_are_numbers_are_read_by_their_texts() -> None:
    taken = policy(**{"gates.quality.value": {"costs": {0: {1: 5}, 1: {0: 50}}, "minimum": -9}})
    limits = QUALITY.limits_of(taken)
    assert limits.value is not None
    assert limits.value.costs == {"0": {"1": 5}, "1": {"0": 50}}
    assert (limits.least_of("value"), limits.most_of("value")) == (-9, None)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("minimum", {"auk": 0.7}, "unknown policy key 'auk'"),
        ("minimum", {"auc": 1.1}, r"policy\.gates\.quality\.minimum\.auc is out of range"),
        ("maximum", {"auc": 0.7}, "unknown policy key 'auc'"),
        ("value", {}, r"policy\.gates\.quality\.value is out of range"),
        ("value", {"minimum": 1}, r"policy\.gates\.quality\.value is out of range"),
        ("value", {"costs": {"Yes": 1}}, r"policy\.gates\.quality\.value\.costs"),
        ("value", {"costs": {"Yes": {"No": "much"}}}, r"policy\.gates\.quality\.value\.costs"),
    ],
)
def test_a_policy_that_can_not_be_meant_is_refused_by_its_key(key: str, value: Any, named: str) -> None:
    with pytest.raises(PolicyInvalid, match=named):
        policy(**{f"gates.quality.{key}": value})


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_measured_through_the_gate(tmp_path: Path, task: Task) -> None:
    few = {"gates.quality.minimum_rows": 18}
    results = by_name(QUALITY.results(world(tmp_path, task), policy(**few)))
    names = {
        Task.BINARY: {"precision", "recall", "f1", "auc", "average_precision", "log_loss"},
        Task.MULTICLASS: {"precision", "recall", "f1", "auc", "log_loss"},
        Task.REGRESSION: {"rmse", "mae"},
    }[task]
    assert set(results) == {f"quality.{name}" for name in {*names, "value"}}
    assert all(result.verdict.goes_on for result in results.values())
    if task is not Task.REGRESSION:
        assert results["quality.auc"].verdict is Verdict.PASSED
        table = results["quality.f1"].table
        assert table is not None
        assert table.columns == ("class", "rows", "answered", "precision", "recall", "f1")
        too_few = by_name(QUALITY.results(world(tmp_path, task), policy()))["quality.auc"]
        assert too_few.verdict is Verdict.INCONCLUSIVE
        assert "on 18 evaluation rows, fewer than 30" in too_few.message


@pytest.mark.parametrize("task", list(Task))
def test_rows_that_can_judge_nothing_are_inconclusive(tmp_path: Path, task: Task) -> None:
    measured = world(tmp_path, task)
    all_of_it = replace(measured.candidate, trained_on=np.ones(18, dtype=bool))
    (result,) = QUALITY.results(replace(measured, candidate=all_of_it), policy())
    assert (result.name, result.verdict) == ("quality", Verdict.INCONCLUSIVE)
    assert "no evaluation rows" in result.message


def test_the_influence_of_a_perfect_regression_is_none() -> None:
    assert metrics.rmse_influence(np.ones(3), np.ones(3)).tolist() == [0, 0, 0]
    assert shares.class_shares(Share.F1, np.array([0]), np.array([0]), 2).tolist() == [1.0, 0.0]
