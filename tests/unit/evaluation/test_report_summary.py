"""What a person is told first: may it go on, what is the riskiest thing, what changes."""

import math
from typing import Any

import pytest

from pipelines.domain.description import Task
from pipelines.domain.figures import Difference, Figures, Metric, Versus
from pipelines.domain.report import Breaking, Compared, Report
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.evaluation.reports.summary import headroom, riskiest, summary_of

PASSED, FAILED, ERROR, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE
CHAMPION = Compared(release="r-1", version="1", bundle_digest="sha256:c")


def gate(name: str, verdict: Verdict = PASSED, *numbers: Any, **more: Any) -> GateResult:
    return GateResult(name, verdict, f"{verdict} {name}", *numbers, **more)


def report(*gates: GateResult, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "model": "toy-model", "version": "2", "bundle_digest": "sha256:b", "policy_digest": "sha256:p",
        "profile": Profile.FULL, "evalset_digest": "sha256:e", "champion": CHAMPION, "gates": gates,
        "verdict": overall(gates), "created_at": "2026-11-28T00:00:00+00:00",
    }  # fmt: skip
    return Report(**{**values, **changes})


@pytest.mark.parametrize(
    ("result", "left"),
    [
        (gate("accuracy", PASSED, 0.8, None, 0.72), 0.1),
        (gate("slo.p95", PASSED, 45.0, None, 50.0), 0.1),
        # The nearer end of the interval counts, and a limit within it is nearer than any other.
        (gate("accuracy", PASSED, 0.8, (0.76, 0.84), 0.78), -0.5),
        (gate("drift.features", PASSED, 0.3, (0.1, 0.5), 0.25), -0.75),
        (gate("accuracy", PASSED, 0.78, (0.76, 0.84), 0.78), -1.0),
        (gate("accuracy", PASSED, 0.78, (0.78, 0.84), 0.78), -1.0),
        (gate("accuracy", PASSED, 0.8, (0.78, 0.84), 0.78), 0.0),
        (gate("slo.p99", PASSED, 90.0, (85.0, 95.0), 100.0), 0.05),
        (gate("comparison", PASSED, 0.003, (-0.002, 0.008), -0.01), 0.8),
        (gate("r2", PASSED, 0.4, (0.3, 0.5), 0.0), 0.75),
        (gate("accuracy", PASSED, 0.78, None, 0.78), 0.0),
        # None where there is nothing to be near to.
        (gate("smoke"), None),
        (gate("accuracy", PASSED, 0.8), None),
        (gate("environment", PASSED, 0.0, None, 0.0), None),
        (gate("slo.generator_cpu", PASSED, 0.89, None, 0.9), None),
        (gate("accuracy", FAILED, 0.7, None, 0.78), None),
        (gate("slo.p99.9", Verdict.NOT_APPLICABLE, 99.0, None, 100.0), None),
    ],
)
def test_headroom_is_the_share_of_the_limit_that_is_left(result: GateResult, left: float | None) -> None:
    assert headroom(result) == (None if left is None else pytest.approx(left))


def test_the_riskiest_thing_is_what_stopped_it_then_what_warns_then_what_is_near() -> None:
    near, far = gate("accuracy", PASSED, 0.8, None, 0.79), gate("slo.p95", PASSED, 5.0, None, 50.0)
    warns = gate("slices", FAILED, 0.5, None, 0.6, warn_only=True)
    undecided, broken, failed = gate("slo.p99", INCONCLUSIVE), gate("parity", ERROR), gate("schema", FAILED)
    assert riskiest([gate("digest"), far, near]) is near
    assert riskiest([near, warns, far]) is warns
    assert riskiest([near, warns, undecided]) is undecided
    assert riskiest([undecided, broken]) is broken
    assert riskiest([undecided, broken, failed]) is failed
    assert riskiest([gate("digest"), gate("smoke")]) is None
    assert riskiest([]) is None


@pytest.mark.parametrize(
    ("gates", "profile", "told"),
    [
        ((gate("accuracy"),), Profile.FULL, "Yes, once another person approves this report."),
        ((gate("accuracy"),), Profile.DEMO, "Only where the policy takes demo evidence"),
        ((gate("accuracy", FAILED), gate("slo", INCONCLUSIVE)), Profile.FULL, "No. Stopped by accuracy."),
        ((gate("slo.p99", INCONCLUSIVE),), Profile.FULL, "Not yet. Undecided: slo.p99."),
        ((gate("parity", ERROR), gate("slo", INCONCLUSIVE)), Profile.FULL, "Not yet. parity could not be measured."),
        ((), Profile.FULL, "Not yet. Undecided: nothing was measured."),
        ((gate("slices", FAILED, warn_only=True),), Profile.FULL, "Yes, once another person approves this report."),
    ],
)
def test_whether_it_may_go_is_said_in_one_sentence(gates: Any, profile: Profile, told: str) -> None:
    assert summary_of(report(*gates, profile=profile)).may_go.startswith(told)


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (gate("accuracy", FAILED), "It failed."),
        (gate("accuracy", ERROR), "It could not be measured."),
        (gate("accuracy", INCONCLUSIVE), "There is too little evidence to decide it."),
        (gate("accuracy", FAILED, warn_only=True), "It would have stopped the version; the policy has it warn only."),
        (
            gate("accuracy", PASSED, 0.8, None, 0.72),
            "It passed, and of all gates is nearest to its limit, with 10.0% of it to spare.",
        ),
        (
            gate("accuracy", PASSED, 0.8, (0.76, 0.84), 0.78),
            "It passed, and of all gates is nearest to its limit, which lies within",
        ),
        (gate("smoke"), "Every gate passed, and none has a limit to be near to."),
    ],
)
def test_why_it_is_risky_is_said(result: GateResult, why: str) -> None:
    assert summary_of(report(result)).why.startswith(why)


def changes(task: Task = Task.BINARY, **more: Any) -> tuple[str, ...]:
    metric = Metric.RMSE if task is Task.REGRESSION else Metric.ACCURACY
    versus = Versus(
        rows=200, changed=50, better=30, worse=12, mean_shift=0.125,
        metrics=(Difference(metric=metric, candidate=2.5, champion=3.0),),
    )  # fmt: skip
    return summary_of(report(figures=Figures(rows=200, versus=versus), task=task, **more)).changes


def test_what_changes_for_users_is_counted_on_the_same_rows() -> None:
    decisions, metrics = changes()
    assert decisions == (
        "50 of 200 rows (25.0%) are decided otherwise than by version 1, which serves production: 30 rightly now, 12"
        " wrongly now; a probability moves by 0.125 on average."
    )
    assert metrics == "On these rows: accuracy 2.5 (-0.5)."
    assert changes(Task.REGRESSION)[0] == (
        "50 of 200 rows (25.0%) are answered more than 1 % off version 1, which serves production: 30 nearer to the"
        " truth, 12 farther; a value moves by 0.125 on average."
    )


def test_what_changes_of_requests_is_told() -> None:
    assert changes(schema_changes=())[-1] == "Requests and answers keep their form."
    assert changes(schema_changes=("feature a is new",))[-1] == "Requests and answers: feature a is new."
    breaking = Breaking(reason="the sensor is gone", changes=("feature b is gone",))
    assert changes(schema_changes=("feature b is gone",), breaking=breaking)[-1] == (
        "Clients have to change, as declared (the sensor is gone): feature b is gone."
    )


def test_the_first_version_changes_nothing() -> None:
    (told,) = summary_of(report(champion=None)).changes
    assert told.startswith("Nothing serves production yet")


def test_what_is_no_number_is_near_to_nothing() -> None:
    assert riskiest([gate("a", PASSED, None, None, 1.0), gate("b", PASSED, 1.0, None, None)]) is None
    assert headroom(gate("a", PASSED, math.inf, None, 1.0)) is None
