import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import helper
from scipy import stats
from sklearn.metrics import roc_auc_score

from app.model import microbatch
from pipelines.domain.bundle import Feature, FeatureType, digest_of
from pipelines.domain.description import Description, Task
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.bundle import golden_rows, parity
from pipelines.evaluation.gates.bundle.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.bundle.digest import DIGEST
from pipelines.evaluation.gates.bundle.golden_rows import GOLDEN_ROWS, Replay
from pipelines.evaluation.gates.bundle.parity import PARITY, Differences
from pipelines.evaluation.gates.bundle.schema import SCHEMA
from pipelines.evaluation.gates.gate import Gate, NoLimits
from pipelines.evaluation.gates.offline.asking import MOST_ROWS, ROWS_ALONE, ask_as_served
from pipelines.evaluation.gates.offline.rows import wilson
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.quality import accuracy, comparison, differences
from pipelines.evaluation.gates.quality.accuracy import ACCURACY, Counts
from pipelines.evaluation.gates.quality.comparison import COMPARISON
from pipelines.evaluation.gates.quality.differences import Difference
from pipelines.evaluation.gates.quality.metrics import auc
from pipelines.evaluation.gates.registry import GATES
from pipelines.packaging.onnx_model import OnnxModel, Scores
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.bundles import make_bundle, read_description, valid_row, with_model
from tests.support.world.records import policy

MARGIN = 0.01
BY_MARGIN = comparison.ComparisonLimits(margin=MARGIN, widening=1)
ROWS = pd.DataFrame([valid_row(age=age) for age in (20, 40, 60)]).assign(churned=["Yes", "No", "Yes"])


def world(
    bundle: tuple[Path, str],
    champion: Path | None = None,
    predictions: pd.DataFrame | None = None,
    rows: pd.DataFrame = ROWS,
) -> Offline:
    """Return what offline gates measure of a bundle, on three rows unless there are others."""
    features = tuple(Feature(str(name), FeatureType.NUMBER) for name in ROWS.columns if name != "churned")
    snapshot = Snapshot(
        rows, SnapshotDescription("toy-model", "churned", "Yes", ("No", "Yes"), features, ()), "sha256:e"
    )
    path, digest = bundle
    served = OpenedBundle(champion, Description.read(read_description(champion)), snapshot) if champion else None
    return Offline(
        digest, OpenedBundle(path, Description.read(read_description(path)), snapshot), snapshot, predictions, served
    )


def result_of(gate: Gate[Offline, Any, Any], measured: Offline) -> GateResult:
    few = {f"gates.{name}.minimum_rows": 3 for name in ("accuracy", "comparison")}
    return the_one_of(gate.name, gate.results(measured, policy(**few)))


def the_one_of(name: str, results: list[GateResult]) -> GateResult:
    (result,) = (each for each in results if each.name == name)
    return result


def compared(candidate: np.ndarray, champion: np.ndarray, positive: np.ndarray) -> GateResult:
    """Return the comparison of the AUC."""
    found = differences.compare(Task.BINARY, candidate, champion, positive)
    return the_one_of("comparison", comparison.judge(found, BY_MARGIN))


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
    (result,) = accuracy.judge(Counts(right, n), accuracy.AccuracyLimits(minimum=minimum, minimum_rows=5))

    assert (result.verdict, result.message) == (verdict, message)


def test_accuracy_shows_the_interval_it_could_as_well_have_been() -> None:
    (result,) = accuracy.judge(Counts(80, 100), accuracy.AccuracyLimits(minimum=0.79))

    # Wilson at 95 %: (p + z2/2n -+ z sqrt(pq/n + z2/4n2)) / (1 + z2/n)
    assert result.interval == pytest.approx((0.71117, 0.86664), abs=1e-4)
    assert (result.observed, result.limit) == (0.8, 0.79)


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (10, 10), (1, 1), (80, 100), (8034, 10_000)])
def test_accuracys_interval_is_the_one_of_scipy(right: int, rows: int) -> None:
    bounds = stats.binomtest(right, rows).proportion_ci(confidence_level=0.95, method="wilson")

    assert wilson(right, rows) == pytest.approx((bounds.low, bounds.high), abs=1e-12)


def test_accuracy_counts_equal_labels(tmp_path: Path) -> None:
    measured = world(make_bundle(tmp_path))
    right = int((measured.candidate.scores.labels == np.array(["Yes", "No", "Yes"], dtype=object)).sum())

    assert result_of(ACCURACY, measured).observed == pytest.approx(right / 3)
    assert 0 < right < 3


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
    (result,) = comparison.judge({"": Difference(-0.02, interval)}, BY_MARGIN)

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

    result = compared(scores, scores.copy(), positive)

    assert (result.verdict, result.observed) == (Verdict.PASSED, 0.0)


def test_a_clearly_worse_candidate_fails_and_a_clearly_better_one_passes() -> None:
    positive, good = truth_and_scores(0.5)
    bad = np.random.default_rng(4).random(len(positive))

    assert compared(bad, good, positive).verdict is Verdict.FAILED
    assert compared(good, bad, positive).verdict is Verdict.PASSED


def test_too_few_rows_to_tell_are_inconclusive() -> None:
    positive, good = truth_and_scores(1.0, n=30)
    other = good + np.random.default_rng(5).normal(0, 1, 30)

    assert compared(other, good, positive).verdict is Verdict.INCONCLUSIVE


def test_the_comparison_repeats_to_the_bit() -> None:
    positive, good = truth_and_scores(1.0, n=200)
    other = good + np.random.default_rng(5).normal(0, 0.3, 200)

    first, second = (compared(other, good, positive) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("positive", [np.zeros(5, dtype=bool), np.ones(5, dtype=bool), np.zeros(0, dtype=bool)])
def test_a_comparison_on_one_class_is_inconclusive(positive: np.ndarray) -> None:
    scores = np.linspace(0, 1, len(positive))

    assert compared(scores, scores, positive).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_probabilities_that_are_no_numbers_never_pass_a_comparison(poison: float, whose: str) -> None:
    positive, scores = truth_and_scores(1.0, n=100)
    # Sorted last, they would rank as the surest of all.
    poisoned = np.where(positive, poison, scores)
    candidate, champion = (poisoned, scores) if whose == "candidate" else (scores, poisoned)

    assert compared(candidate, champion, positive).verdict is Verdict.ERROR


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
    found = Differences(rows=1, logged=1, largest=difference, labels=other_labels)
    (result,) = parity.judge(found, parity.ParityLimits(tolerance=1e-5))

    assert result.verdict is verdict


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

    assert parity_of(labels, probabilities, trained).verdict is verdict


def parity_of(labels: list[str], probabilities: list[float], trained: pd.DataFrame) -> GateResult:
    numbers = {"probability": np.array(probabilities, dtype=np.float64)}
    found = parity.compare(numbers, np.array(labels, dtype=object), trained)
    (result,) = parity.judge(found, parity.ParityLimits(tolerance=1e-5))
    return result


def test_parity_without_predictions_is_not_applicable_and_without_rows_inconclusive(tmp_path: Path) -> None:
    empty = pd.DataFrame({"label": [], "probability": []})
    absent = result_of(PARITY, world(make_bundle(tmp_path)))

    assert absent.verdict is Verdict.NOT_APPLICABLE
    assert absent.message == "no scikit-learn predictions were logged with this version"
    assert parity_of([], [], empty).verdict is Verdict.INCONCLUSIVE


def test_parity_is_measured_with_the_predictions_of_the_training(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    candidate = world(bundle).candidate
    same = pd.DataFrame({"label": candidate.scores.labels, "probability": candidate.probability("Yes")})

    assert result_of(PARITY, world(bundle, predictions=same)).verdict is Verdict.PASSED
    assert result_of(PARITY, world(bundle, predictions=same.assign(label="No"))).verdict is Verdict.FAILED


def test_the_digest_gate_names_both_digests_when_they_differ(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    measured = world((path, digest))
    assert result_of(DIGEST, measured).verdict is Verdict.PASSED

    content = (path / "bundle.json").read_bytes() + b" "
    (path / "bundle.json").write_bytes(content)

    result = result_of(DIGEST, measured)
    assert result.verdict is Verdict.FAILED
    assert result.message == f"FAIL: digest mismatch, expected {digest} got {digest_of(content)}"


def test_a_file_that_is_no_onnx_model_fails_the_safety_gate(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert result_of(ARTIFACT_SAFETY, world(bundle)).verdict is Verdict.PASSED

    (bundle[0] / "model.onnx").write_bytes(b"\x80\x04cos\nsystem\n.")

    assert result_of(ARTIFACT_SAFETY, world(bundle)).verdict is Verdict.FAILED


def test_golden_rows_are_replayed(tmp_path: Path) -> None:
    right, wrong = make_bundle(tmp_path), make_bundle(tmp_path, wrong_golden=True)

    assert result_of(GOLDEN_ROWS, world(right)).verdict is Verdict.PASSED
    assert result_of(GOLDEN_ROWS, world(wrong)).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("difference", "verdict", "said"),
    [
        (0.0, Verdict.PASSED, "PASS"),
        (1e-5, Verdict.PASSED, "PASS"),
        (1.1e-5, Verdict.FAILED, "=1.1e-05 >"),
        (math.inf, Verdict.FAILED, "another label"),
        (math.nan, Verdict.FAILED, "nan"),
    ],
)
def test_golden_rows_allow_a_difference_up_to_their_tolerance(difference: float, verdict: Verdict, said: str) -> None:
    (result,) = golden_rows.judge(Replay(difference, tolerance=1e-5), NoLimits())

    assert result.verdict is verdict
    assert said in result.message


def test_the_schema_gate_tells_every_break_and_needs_a_champion(tmp_path: Path) -> None:
    champion, wider = make_bundle(tmp_path), make_bundle(tmp_path, extra_features=2)

    first = result_of(SCHEMA, world(champion))
    assert (first.verdict, first.message) == (Verdict.NOT_APPLICABLE, "no champion yet, so no client to break")
    assert result_of(SCHEMA, world(champion, champion[0])).verdict is Verdict.PASSED
    refused = result_of(SCHEMA, world(wider, champion[0]))
    assert refused.verdict is Verdict.FAILED
    told = "FAIL: schema: feature extra_0 is new and required; feature extra_1 is new and required"
    assert refused.message == told


def test_a_candidate_is_compared_with_the_champion_on_the_same_rows(tmp_path: Path) -> None:
    candidate, champion = make_bundle(tmp_path), make_bundle(tmp_path, extra_features=2)

    assert result_of(COMPARISON, world(candidate)).message == "no champion yet to compare with"
    many = pd.concat([ROWS] * 10, ignore_index=True)
    assert result_of(COMPARISON, world(candidate, candidate[0], rows=many)).verdict is Verdict.PASSED
    lacking = result_of(COMPARISON, world(candidate, champion[0]))
    assert lacking.message == "INCONCLUSIVE: comparison: the evaluation set lacks the champion's extra_0, extra_1"


def changing(bundle: tuple[Path, str], size: str, limit: int) -> tuple[Path, str]:
    """Return a bundle whose model answers the other way round when the number of its rows is so."""
    graph = onnx.load(str(bundle[0] / "model.onnx")).graph
    for node in graph.node:
        node.output[:] = ["calm" if name == "probabilities" else name for name in node.output]
    one = helper.make_tensor("one", onnx.TensorProto.FLOAT, [], [1.0])
    bound = helper.make_tensor("bound", onnx.TensorProto.INT64, [], [limit])
    first = helper.make_tensor("first", onnx.TensorProto.INT64, [], [0])
    graph.initializer.extend([one, bound, first])
    graph.node.extend(
        [
            helper.make_node("Shape", ["age"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["rows"]),
            helper.make_node(size, ["rows", "bound"], ["changes"]),
            helper.make_node("Sub", ["one", "calm"], ["turned"]),
            helper.make_node("Where", ["changes", "turned", "calm"], ["probabilities"]),
        ]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return with_model(bundle[0], helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize(("size", "limit"), [("Equal", 1), ("Greater", 20), ("Greater", 250)])
def test_a_model_that_tells_by_the_number_of_rows_that_it_is_measured_is_refused(
    tmp_path: Path, size: str, limit: int
) -> None:
    model = world(changing(make_bundle(tmp_path), size, limit)).candidate.model
    frame = pd.DataFrame([valid_row(age=age % 90, income=float(age)) for age in range(3000)])

    with pytest.raises(NotServable, match=r"to row [0-9]+ of the evaluation set alone, and .* among others"):
        ask_as_served(model, frame)


def test_rows_are_asked_in_no_order_and_in_the_sizes_of_the_service_and_answered_in_theirs(tmp_path: Path) -> None:
    model = world(make_bundle(tmp_path)).candidate.model
    frame = pd.DataFrame([valid_row(age=age % 90, income=float(age)) for age in range(3000)])
    asked: list[np.ndarray] = []

    class Watched:
        feeds = model.feeds

        def answer(self, feeds: Any, rows: np.ndarray) -> Any:
            asked.append(rows)
            return model.answer(feeds, rows)

    scores = ask_as_served(Watched(), frame)  # type: ignore[arg-type]

    plain = model.score(frame)
    assert scores.numbers == pytest.approx(plain.numbers, abs=1e-6)
    assert (scores.labels == plain.labels).all()
    sizes = [len(rows) for rows in asked]
    assert max(sizes) <= MOST_ROWS == microbatch._MOST_ROWS
    assert sizes.count(1) >= ROWS_ALONE
    orders = [list(rows) for rows in asked if len(rows) > 10]
    assert all(order != sorted(order) for order in orders)


@pytest.mark.parametrize(("usual", "refused"), [(7000.0, False), (12.0, True)])
def test_what_cancels_is_rounded_as_the_values_that_cancel(usual: float, refused: bool) -> None:
    class Cancelling:
        """Answers 12 to the first row, and by half a thousandth more where it is asked among others."""

        def feeds(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
            return {"x": frame[["x"]].to_numpy()}

        def answer(self, feeds: dict[str, np.ndarray], rows: np.ndarray) -> Scores:
            values = feeds["x"][rows].copy()
            values[(rows == 0) & (len(rows) > 1)] += 5e-4
            return Scores(values, None)

    # Few enough that each of them is asked alone too; the first is among others in all but one order in ten.
    frame = pd.DataFrame({"x": [12.0] + [usual] * 200})
    told: list[str] = []
    for _ in range(20):
        try:
            ask_as_served(Cancelling(), frame)  # type: ignore[arg-type]
        except NotServable as error:
            told.append(str(error))
    assert bool(told) is refused


def test_no_rows_are_asked_as_none(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)[0]
    opened = OpenedBundle(bundle, Description.read(read_description(bundle)), world(make_bundle(tmp_path)).snapshot)
    assert len(opened.ask(ROWS.iloc[:0]).labels) == 0


def test_a_champion_that_can_not_be_scored_says_nothing_of_the_candidate(tmp_path: Path) -> None:
    champion = changing(make_bundle(tmp_path / "champion"), "Equal", 1)[0]
    measured = world(make_bundle(tmp_path), champion)
    while (result := result_of(COMPARISON, measured)).verdict is not Verdict.ERROR:
        # Three rows may by chance all have been asked alone.
        measured = world(make_bundle(tmp_path), champion)
    assert result.message.startswith("ERROR: comparison: the champion on these rows: the ONNX model answers")


def test_each_model_is_opened_once_for_all_gates_after_the_candidate_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Path, dict[str, bool]]] = []
    load = OnnxModel.load
    monkeypatch.setattr(OnnxModel, "load", lambda path, **how: opened.append((path, how)) or load(path, **how))
    candidate, champion = make_bundle(tmp_path), make_bundle(tmp_path, seed=1)
    measured = world(candidate, champion[0])

    for gate in (*GATES.of_the_bundle, *GATES.of_the_model):
        gate.results(measured, policy())

    tried, served, champions = opened
    assert tried == (candidate[0] / "model.onnx", {"eager": False})
    assert (served, champions) == ((candidate[0] / "model.onnx", {}), (champion[0] / "model.onnx", {}))
