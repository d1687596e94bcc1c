"""What has to be proven of a candidate beside the champion, and what only must not be proven against it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipelines.domain.description import Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.answers import Unmeasured
from pipelines.evaluation.gates.quality.comparison import COMPARISON, ComparisonLimits, judge
from pipelines.evaluation.gates.quality.differences import Difference, accuracies, compare
from pipelines.evaluation.gates.quality.mcnemar import Discordant
from tests.support.world.records import policy
from tests.unit.evaluation.test_gates_by_task import ENOUGH, world


def judged(metric: str, interval: tuple[float, float], *, relative: bool = False, **limits: Any) -> GateResult:
    middle = sum(interval) / 2
    found = {metric: Difference(middle, interval, relative)}
    (result,) = judge(found, ComparisonLimits.model_validate(limits))
    return result


@pytest.mark.parametrize(
    ("metric", "interval", "limits", "verdict"),
    [
        ("auc", (-0.009, 0.001), {}, Verdict.PASSED),
        # As wide as 0.04: a version as good as the champion is proven within 0.05 at best.
        ("auc", (-0.049, -0.009), {}, Verdict.PASSED),
        ("auc", (-0.051, -0.011), {}, Verdict.INCONCLUSIVE),
        ("auc", (-0.051, -0.011), {"widening": 1}, Verdict.FAILED),
        ("auc", (-0.061, -0.021), {}, Verdict.FAILED),
        # Wider than eight times the margin.
        ("auc", (-0.0801, 0.1), {}, Verdict.INCONCLUSIVE),
        ("auc", (-0.0799, 0.1), {}, Verdict.PASSED),
        # Need not be proven: shown where nothing is.
        ("log_loss", (-0.3, 0.3), {}, Verdict.NOT_APPLICABLE),
        ("log_loss", (-0.3, 0.3), {"proven": ["log_loss"]}, Verdict.INCONCLUSIVE),
        ("log_loss", (-0.3, -0.2), {}, Verdict.FAILED),
        ("log_loss", (-0.01, 0.01), {}, Verdict.PASSED),
        ("f1", (float("nan"), float("nan")), {}, Verdict.INCONCLUSIVE),
        ("", (-0.3, 0.3), {}, Verdict.INCONCLUSIVE),
        ("", (-0.3, 0.3), {"proven": ["log_loss"]}, Verdict.NOT_APPLICABLE),
    ],
)
def test_margins_are_as_wide_as_few_rows_can_prove(
    metric: str, interval: tuple[float, float], limits: dict[str, Any], verdict: Verdict
) -> None:
    assert judged(metric, interval, relative=metric == "log_loss", **limits).verdict is verdict


def test_a_widened_margin_is_said() -> None:
    result = judged("auc", (-0.049, -0.009))
    assert result.message.endswith("margin 0.0500 (0.01, widened for so few rows)")
    assert result.limit == pytest.approx(-0.05)
    shown = judged("accuracy", (-0.3, 0.3))
    assert shown.message.endswith("proven neither worse nor no worse (shown, not judged)")


def retrained(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probabilities of two trainings of the same quality, and the truth."""
    random = np.random.default_rng(seed)
    odds = random.normal(-1, 1.5, rows)
    one, other = (1 / (1 + np.exp(-(odds + random.normal(0, 0.3, rows)))) for _ in range(2))
    return one, other, random.random(rows) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("seed", range(8))
def test_a_retrain_of_the_same_quality_is_not_stopped(seed: int) -> None:
    one, other, positive = retrained(seed, 150)
    found = dict(compare(Task.BINARY, one, other, positive))
    found["accuracy"] = accuracies((one > 0.5) == positive, (other > 0.5) == positive)
    results = judge(found, ComparisonLimits())
    assert [result.message for result in results if not result.verdict.goes_on] == []


def test_a_version_that_is_worse_by_one_metric_alone_fails_by_it() -> None:
    one, _, positive = retrained(1, 1000)
    odds = (one / (1 - one)) ** 4
    too_sure = odds / (1 + odds)
    results = {
        each.name: each.verdict for each in judge(compare(Task.BINARY, too_sure, one, positive), ComparisonLimits())
    }
    assert results == {"comparison": Verdict.PASSED, "comparison.log_loss": Verdict.FAILED}


@pytest.mark.parametrize(("ours", "theirs"), [(3, 12), (0, 5), (7, 0), (0, 0), (40, 41), (300, 500)])
def test_mcnemars_test_is_the_exact_binomial_one(ours: int, theirs: int) -> None:
    pairs = Discordant(700, ours, theirs, 100)
    decided = ours + theirs
    if decided:
        exact = stats.binomtest(ours, decided)
        assert pairs.p == pytest.approx(exact.pvalue)
        share = exact.proportion_ci(0.9)
        bounds = [(2 * each - 1) * decided / pairs.rows for each in (share.low, share.high)]
        assert pairs.bounds == pytest.approx(bounds)
    else:
        assert (pairs.p, pairs.bounds) == (1.0, (0.0, 0.0))


def test_accuracies_are_compared_by_the_rows_that_one_alone_answers_rightly() -> None:
    ours = np.array([True] * 60 + [False] * 40)
    theirs = np.array([True] * 55 + [False] * 5 + [True] * 30 + [False] * 10)
    (result,) = judge({"accuracy": accuracies(ours, theirs)}, ComparisonLimits())
    assert result.verdict is Verdict.FAILED
    assert result.observed == pytest.approx(-0.25)
    assert "right alone on 5 of 100 rows, production on 30, McNemar's exact p=" in result.message
    assert result.table is not None
    assert result.table.rows == (("right", 55, 5), ("wrong", 30, 10))
    (same,) = judge({"accuracy": accuracies(ours, ours)}, ComparisonLimits())
    assert same.verdict is Verdict.PASSED


def test_a_policy_names_what_has_to_be_proven(tmp_path: Path) -> None:
    named = policy(
        **{"gates.comparison.proven": ["auc", "f1", "average_precision"], "gates.comparison.minimum_rows": 18}
    )
    results = {
        result.name: result.verdict for result in COMPARISON.results(world(tmp_path, Task.BINARY, count=ENOUGH), named)
    }
    names = ("comparison", *(f"comparison.{each}" for each in ("log_loss", "average_precision", "accuracy", "f1")))
    assert results == dict.fromkeys(names, Verdict.PASSED)
    for wrong in ([], ["auk"], "auc"):
        with pytest.raises(PolicyInvalid, match=r"policy\.gates\.comparison\.proven"):
            policy(**{"gates.comparison.proven": wrong})


def test_probabilities_that_are_no_numbers_leave_nothing_to_compare() -> None:
    one, other, positive = retrained(1, 100)
    one[3] = np.nan
    (found,) = compare(Task.BINARY, one, other, positive).values()
    assert isinstance(found, Unmeasured)
    assert found.verdict is Verdict.ERROR


def with_target(measured: Offline, target: list[str]) -> Offline:
    """Return the same answers beside another truth."""
    snapshot = replace(measured.snapshot, frame=measured.snapshot.frame.assign(y=target))
    bundle = replace(measured.candidate, snapshot=snapshot)
    return replace(measured, snapshot=snapshot, candidate=bundle, champion=bundle)


@pytest.mark.parametrize(("positives", "verdict"), [(1, "inconclusive"), (9, "inconclusive"), (10, "passed")])
def test_so_few_rows_of_a_class_prove_nothing(tmp_path: Path, positives: int, verdict: str) -> None:
    measured = world(tmp_path, Task.BINARY, count=ENOUGH)
    output = measured.candidate.description.output
    yes, no = sorted(map(label_text, output.classes), key=lambda text: text != label_text(output.positive or ""))
    rows = len(measured.snapshot.frame)
    rare = with_target(measured, [yes] * positives + [no] * (rows - positives))
    found = {each.name: each for each in COMPARISON.results(rare, policy(**{"gates.comparison.minimum_rows": rows}))}
    assert found["comparison"].verdict == verdict
    assert found["comparison.accuracy"].verdict is Verdict.PASSED
    assert (f"{positives} rows of a class, fewer than 10" in found["comparison"].message) is (verdict != "passed")


def test_a_class_that_the_models_do_not_know_is_not_taken_for_the_other_one(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.BINARY, count=ENOUGH)
    known = measured.snapshot.target.tolist()
    strange = with_target(measured, ["maybe", *known[1:]])
    (result,) = COMPARISON.results(strange, policy(**{"gates.comparison.minimum_rows": len(known)}))
    assert (result.verdict, "unknown classes ['maybe']" in result.message) == (Verdict.INCONCLUSIVE, True)
