import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.domain.bundle import digest_of
from pipelines.domain.verdict import Verdict
from pipelines.evaluation.gates.offline.accuracy import judge_accuracy, measure_accuracy
from pipelines.evaluation.gates.offline.comparison import auc, judge_comparison, measure_comparison
from pipelines.evaluation.gates.offline.parity import judge_parity, measure_parity
from pipelines.evaluation.gates.offline.safety import (
    judge_golden_rows,
    measure_artifact_safety,
    measure_digest,
    measure_golden_rows,
)
from pipelines.evaluation.gates.offline.schema import judge_schema
from pipelines.packaging.onnx_model import Scores
from tests.support.world.bundles import make_bundle, read_description

MARGIN = 0.01


@pytest.mark.parametrize(
    ("right", "n", "minimum", "verdict", "message"),
    [
        (8034, 10_000, 0.9, Verdict.FAILED, "FAIL: accuracy=0.8034 < 0.9"),
        (8034, 10_000, 0.78, Verdict.PASSED, "PASS accuracy=0.8034 >= 0.78"),
        (4, 5, 0.8, Verdict.PASSED, "PASS accuracy=0.8000 >= 0.8"),
        (79, 100, 0.8, Verdict.FAILED, "FAIL: accuracy=0.7900 < 0.8"),
        (0, 10, 0.0, Verdict.PASSED, "PASS accuracy=0.0000 >= 0"),
        (10, 10, 1.0, Verdict.PASSED, "PASS accuracy=1.0000 >= 1"),
        (0, 0, 0.0, Verdict.INCONCLUSIVE, "INCONCLUSIVE: accuracy: no evaluation rows"),
    ],
)
def test_accuracy_is_judged_by_its_point_estimate(
    right: int, n: int, minimum: float, verdict: Verdict, message: str
) -> None:
    result = judge_accuracy(right, n, minimum=minimum)

    assert (result.verdict, result.message) == (verdict, message)


def test_accuracy_shows_the_interval_it_could_as_well_have_been() -> None:
    result = judge_accuracy(80, 100, minimum=0.79)

    # Wilson at 95 %: (p + z2/2n -+ z sqrt(pq/n + z2/4n2)) / (1 + z2/n)
    assert result.interval == pytest.approx((0.71117, 0.86664), abs=1e-4)
    assert (result.observed, result.limit) == (0.8, 0.79)


def test_accuracy_counts_equal_labels() -> None:
    predicted, actual = np.array(["Yes", "No", "No"], dtype=object), np.array(["Yes", "Yes", "No"], dtype=object)

    assert measure_accuracy(predicted, actual, minimum=0.5).observed == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.009, 0.02), Verdict.PASSED),
        ((-0.0100001, 0.02), Verdict.INCONCLUSIVE),
        ((-0.01, 0.02), Verdict.INCONCLUSIVE),
        ((-0.05, -0.01), Verdict.INCONCLUSIVE),
        ((-0.05, -0.0100001), Verdict.FAILED),
        ((0.01, 0.02), Verdict.PASSED),
        ((math.nan, math.nan), Verdict.INCONCLUSIVE),
    ],
)
def test_comparison_has_three_answers(interval: tuple[float, float], verdict: Verdict) -> None:
    result = judge_comparison(-0.02, interval, margin=MARGIN)

    assert result.verdict is verdict
    assert result.message.startswith(
        {Verdict.PASSED: "PASS", Verdict.FAILED: "FAIL: comparison=-0.0200 < -0.01"}.get(verdict, "INCONCLUSIVE")
    )


def truth_and_scores(noise: float, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    positive = random.random(n) < 0.3
    return positive, positive + random.normal(0, 1, n) * noise


def test_a_candidate_equal_to_the_champion_passes() -> None:
    positive, scores = truth_and_scores(1.0)

    result = measure_comparison(scores, scores.copy(), positive, margin=MARGIN)

    assert (result.verdict, result.observed) == (Verdict.PASSED, 0.0)


def test_a_clearly_worse_candidate_fails_and_a_clearly_better_one_passes() -> None:
    positive, good = truth_and_scores(0.5)
    bad = np.random.default_rng(4).random(len(positive))

    assert measure_comparison(bad, good, positive, margin=MARGIN).verdict is Verdict.FAILED
    assert measure_comparison(good, bad, positive, margin=MARGIN).verdict is Verdict.PASSED


def test_too_few_rows_to_tell_are_inconclusive() -> None:
    positive, good = truth_and_scores(1.0, n=30)
    other = good + np.random.default_rng(5).normal(0, 1, 30)

    assert measure_comparison(other, good, positive, margin=MARGIN).verdict is Verdict.INCONCLUSIVE


def test_the_comparison_repeats_to_the_bit() -> None:
    positive, good = truth_and_scores(1.0, n=200)
    other = good + np.random.default_rng(5).normal(0, 0.3, 200)

    first, second = (measure_comparison(other, good, positive, margin=MARGIN) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("positive", [np.zeros(5, dtype=bool), np.ones(5, dtype=bool), np.zeros(0, dtype=bool)])
def test_a_comparison_on_one_class_is_inconclusive(positive: np.ndarray) -> None:
    scores = np.linspace(0, 1, len(positive))

    assert measure_comparison(scores, scores, positive, margin=MARGIN).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_probabilities_that_are_no_numbers_never_pass_a_comparison(poison: float, whose: str) -> None:
    positive, scores = truth_and_scores(1.0, n=100)
    # Sorted last, they would rank as the surest of all.
    poisoned = np.where(positive, poison, scores)
    candidate, champion = (poisoned, scores) if whose == "candidate" else (scores, poisoned)

    assert measure_comparison(candidate, champion, positive, margin=MARGIN).verdict is Verdict.ERROR


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_auc_agrees_with_scikit_learn_also_with_ties(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    positive = random.random(300) < 0.4
    scores = random.integers(0, levels, 300) / levels + 0.1 * positive

    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_auc_of_constant_scores_is_a_half() -> None:
    assert auc(np.zeros(4), np.array([True, False, True, False])) == 0.5


@pytest.mark.parametrize(
    ("difference", "other_labels", "verdict"),
    [
        (0.0, 0, Verdict.PASSED),
        (1e-5, 0, Verdict.PASSED),
        (1.01e-5, 0, Verdict.FAILED),
        (0.0, 1, Verdict.FAILED),
        (math.nan, 0, Verdict.FAILED),
        (math.inf, 0, Verdict.FAILED),
    ],
)
def test_parity_allows_a_difference_up_to_its_tolerance(difference: float, other_labels: int, verdict: Verdict) -> None:
    assert judge_parity(difference, other_labels=other_labels, tolerance=1e-5).verdict is verdict


def scores_of(labels: list[str], probabilities: list[float]) -> Scores:
    return Scores(np.array(labels, dtype=object), np.array(probabilities, dtype=np.float64))


@pytest.mark.parametrize(
    ("labels", "probabilities", "verdict"),
    [
        (["No", "Yes"], [0.2, 0.7], Verdict.PASSED),
        (["No", "Yes"], [0.2, 0.7001], Verdict.FAILED),
        (["No", "No"], [0.2, 0.7], Verdict.FAILED),
        (["No", "Yes"], [0.2, math.nan], Verdict.FAILED),
        (["No"], [0.2], Verdict.ERROR),
        ([], [], Verdict.ERROR),
    ],
)
def test_parity_is_measured_row_by_row(labels: list[str], probabilities: list[float], verdict: Verdict) -> None:
    trained = pd.DataFrame({"label": ["No", "Yes"], "probability": [0.2, 0.7]})

    assert measure_parity(scores_of(labels, probabilities), trained, tolerance=1e-5).verdict is verdict


def test_parity_without_predictions_is_not_applicable_and_without_rows_inconclusive() -> None:
    empty = pd.DataFrame({"label": [], "probability": []})

    assert measure_parity(scores_of(["No"], [0.2]), None, tolerance=1e-5).verdict is Verdict.NOT_APPLICABLE
    assert measure_parity(scores_of([], []), empty, tolerance=1e-5).verdict is Verdict.INCONCLUSIVE


def test_the_digest_gate_names_both_digests_when_they_differ(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    assert measure_digest(path, expected=digest).verdict is Verdict.PASSED

    content = (path / "bundle.json").read_bytes() + b" "
    (path / "bundle.json").write_bytes(content)

    result = measure_digest(path, expected=digest)
    assert result.verdict is Verdict.FAILED
    assert result.message == f"FAIL: digest mismatch, expected {digest} got {digest_of(content)}"


def test_a_file_that_is_no_onnx_model_fails_the_safety_gate(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    assert measure_artifact_safety(path).verdict is Verdict.PASSED

    (path / "model.onnx").write_bytes(b"\x80\x04cos\nsystem\n.")

    assert measure_artifact_safety(path).verdict is Verdict.FAILED


def test_golden_rows_are_replayed(tmp_path: Path) -> None:
    right, _ = make_bundle(tmp_path)
    wrong, _ = make_bundle(tmp_path, wrong_golden=True)

    assert measure_golden_rows(right, read_description(right)).verdict is Verdict.PASSED
    assert measure_golden_rows(wrong, read_description(wrong)).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("difference", "labels_agree", "verdict"),
    [
        (0.0, True, Verdict.PASSED),
        (1e-5, True, Verdict.PASSED),
        (1.1e-5, True, Verdict.FAILED),
        (0.0, False, Verdict.FAILED),
        (math.nan, True, Verdict.FAILED),
    ],
)
def test_golden_rows_allow_a_difference_up_to_their_tolerance(
    difference: float, labels_agree: bool, verdict: Verdict
) -> None:
    assert judge_golden_rows(difference, labels_agree=labels_agree, tolerance=1e-5).verdict is verdict


def test_the_schema_gate_tells_every_break_and_needs_a_champion(tmp_path: Path) -> None:
    champion = read_description(make_bundle(tmp_path)[0])
    wider = read_description(make_bundle(tmp_path, extra_features=2)[0])

    assert judge_schema(champion, None).verdict is Verdict.NOT_APPLICABLE
    assert judge_schema(champion, champion).verdict is Verdict.PASSED
    refused = judge_schema(wider, champion)
    assert refused.verdict is Verdict.FAILED
    assert "extra_0" in refused.message
    assert "extra_1" in refused.message
