"""Fairness: what is proven of groups by a protected attribute, and what can't be."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as reference

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.groups.fairness import FAIRNESS
from pipelines.evaluation.gates.groups.gaps import GroupRate, interval_of
from tests.support.world.answered import FEATURES, PLACES, answered, classes_of, visitors
from tests.support.world.records import policy

SHARES = {"fairness.error", "fairness.equalized_odds", "fairness.demographic_parity"}
MEANS = {"fairness.mae", "fairness.residual"}


def results(measured: Any, **changes: Any) -> dict[str, GateResult]:
    return {each.name: each for each in FAIRNESS.results(measured, policy(**changes))}


def told(task: Task, frame: Any, truth: Any, answers: Any, **changes: Any) -> dict[str, GateResult]:
    return results(answered(task, frame, truth, answers, protected=("member",)), **changes)


@pytest.mark.parametrize("task", list(Task))
def test_a_model_that_answers_groups_alike_passes_with_each_groups_rates(task: Task) -> None:
    found = told(task, *visitors(task))
    assert set(found) == (MEANS if task is Task.REGRESSION else SHARES)
    assert {each.verdict for each in found.values()} == {Verdict.PASSED}
    for each in found.values():
        assert each.table is not None
        assert {row[:2] for row in each.table.rows} == {("member", "false"), ("member", "true")}


@pytest.mark.parametrize(
    ("task", "failing"),
    [
        (Task.BINARY, {"fairness.error", "fairness.equalized_odds"}),
        (Task.MULTICLASS, {"fairness.error", "fairness.equalized_odds"}),
        (Task.REGRESSION, MEANS),
    ],
)
def test_a_model_that_is_wrong_of_one_group_is_stopped(task: Task, failing: set[str]) -> None:
    frame, truth, answers = visitors(task)
    member = frame["member"].to_numpy()
    answers[member] = answers[member] + 12 if task is Task.REGRESSION else answers[member][:, ::-1]
    found = told(task, frame, truth, answers)
    assert {name for name, each in found.items() if each.verdict is Verdict.FAILED} == failing
    assert "where member = " in found[min(failing)].message


def test_a_group_that_is_denied_what_it_is_due_is_stopped_by_the_odds() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    answers[frame["member"].to_numpy()] = [0.9, 0.1]
    found = told(Task.BINARY, frame, truth, answers)
    assert found["fairness.equalized_odds"].verdict is Verdict.FAILED
    assert "true positive rate" in found["fairness.equalized_odds"].message


def test_parity_is_shown_only_unless_a_policy_limits_it() -> None:
    frame, truth, _ = visitors(Task.BINARY)
    truth[:] = np.where(frame["member"], "no", "yes")
    right = classes_of(Task.BINARY, truth)
    shown = told(Task.BINARY, frame, truth, right)["fairness.demographic_parity"]
    assert (shown.verdict, shown.observed, shown.limit) == (Verdict.PASSED, 1.0, None)
    assert "shown only" in shown.message
    limited = told(Task.BINARY, frame, truth, right, **{"gates.fairness.demographic_parity": 0.5})
    assert limited["fairness.demographic_parity"].verdict is Verdict.FAILED


def test_rates_that_a_group_has_no_rows_for_are_left_out_and_counted() -> None:
    frame, truth, _ = visitors(Task.BINARY)
    truth[:] = np.where(frame["member"], "no", truth)
    found = told(Task.BINARY, frame, truth, classes_of(Task.BINARY, truth))["fairness.equalized_odds"]
    assert found.verdict is Verdict.PASSED
    assert "false positive rate" in found.message
    assert found.message.endswith("; 1 more of too few rows)")


@pytest.mark.parametrize("value", [True, None])
def test_one_group_alone_has_nobody_to_be_compared_with(value: bool | None) -> None:
    frame, truth, answers = visitors(Task.BINARY)
    frame = frame.assign(member=value)
    found = told(Task.BINARY, frame, truth, answers)
    assert {each.verdict for each in found.values()} == {Verdict.NOT_APPLICABLE}
    assert "no protected attribute has two groups of enough rows" in found["fairness.error"].message


def test_what_is_missing_is_a_group_and_numbers_are_cut() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    missing = frame["age"].isna().to_numpy()
    answers[missing] = classes_of(Task.BINARY, truth)[missing][:, ::-1]
    found = results(answered(Task.BINARY, frame, truth, answers, protected=("age", "place")))
    assert found["fairness.error"].verdict is Verdict.FAILED
    assert "where age = missing" in found["fairness.error"].message
    assert found["fairness.error"].table is not None
    assert {row[1] for row in found["fairness.error"].table.rows if row[0] == "place"} == set(PLACES)


@pytest.mark.parametrize("rows", [29, 0])
def test_too_few_rows_decide_nothing(rows: int) -> None:
    (found,) = told(Task.BINARY, *visitors(Task.BINARY, rows=rows)).values()
    assert (found.name, found.verdict) == ("fairness", Verdict.INCONCLUSIVE)


def test_an_answer_that_is_no_number_is_an_error() -> None:
    frame, truth, answers = visitors(Task.REGRESSION)
    answers[0] = np.inf
    (found,) = told(Task.REGRESSION, frame, truth, answers).values()
    assert found.verdict is Verdict.ERROR


def test_without_protected_attributes_the_gate_does_not_apply() -> None:
    (found,) = results(answered(Task.BINARY, *visitors(Task.BINARY))).values()
    assert (found.verdict, found.message) == (
        Verdict.NOT_APPLICABLE,
        "the evaluation set names no protected attribute",
    )


def test_a_protected_column_may_be_called_anything() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    name = "sensitive feature, 0"
    frame = frame.rename(columns={"member": name})
    features = (*FEATURES[:2], Feature(name, FeatureType.BOOLEAN))
    found = results(answered(Task.BINARY, frame, truth, answers, protected=(name,), features=features))
    assert {each.verdict for each in found.values()} == {Verdict.PASSED}


def test_differences_are_those_of_fairlearn() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    found = told(Task.BINARY, frame, truth, answers)
    true, said = truth == "yes", answers.argmax(axis=1) == 1
    groups = {"sensitive_features": frame["member"]}
    parity = reference.demographic_parity_difference(true, said, **groups)
    assert found["fairness.demographic_parity"].observed == pytest.approx(parity)
    odds = found["fairness.equalized_odds"].table
    assert odds is not None
    widest = pd.DataFrame(odds.rows, columns=odds.columns)["widest difference"].max()
    assert widest == pytest.approx(reference.equalized_odds_difference(true, said, **groups))


def test_newcombes_interval_is_that_of_his_paper() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10: 56/70 against 48/80 at 95 %.
    low, high = GroupRate("b", 80, 48 / 80, 0.0), GroupRate("a", 70, 56 / 70, 0.0)
    assert interval_of(low, high, 0.025, shares=True) == pytest.approx((0.0524, 0.3339), abs=5e-5)
