"""What plots are drawn from: right numbers of every task, few of them, and nothing else out of a confined job."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from pipelines.domain.bundle import Feature, digest_of
from pipelines.domain.description import Description, Task, label_text
from pipelines.domain.figures import MOST_POINTS, Figures, Histogram, Line, Metric
from pipelines.domain.verdict import Verdict
from pipelines.errors import JobFailed
from pipelines.evaluation.gates.bundle.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.bundle.digest import DIGEST
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.registry import Gates
from pipelines.evaluation.offline import Material, Measured, ask_offline
from pipelines.evaluation.reports.figures import take_figures
from pipelines.packaging.onnx_model import Scores
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.records import policy
from tests.support.world.typed_bundles import ROW, answer_of, make_typed_bundle

ROWS = 4000
FIRST = np.random.default_rng(5)
GATES = Gates((DIGEST, ARTIFACT_SAFETY))


def opened(directory: Path, task: Task, truth: np.ndarray, scores: Scores, **changes: Any) -> OpenedBundle:
    """Return a bundle that has answered as many rows already, whatever its model would say."""
    path, _ = make_typed_bundle(directory, task)
    description = Description.read(json.loads((path / "bundle.json").read_bytes()))
    output = description.output
    described = SnapshotDescription(
        "typed-model", "y", output.positive, output.classes, tuple(map(Feature.read, description.features)), (), task
    )
    frame = pd.DataFrame([ROW] * len(truth)).assign(y=truth)
    bundle = OpenedBundle(path, description, Snapshot(frame, described, "sha256:e"), **changes)
    bundle.__dict__["asked"] = (np.ones(len(truth), dtype=bool), scores)
    return bundle


def world(directory: Path, task: Task, truth: np.ndarray, *answers: Scores, **changes: Any) -> Offline:
    """Return a candidate, and a champion if there are two answers."""
    bundles = [opened(directory / str(n), task, truth, each, **changes) for n, each in enumerate(answers)]
    champion = bundles[1] if len(bundles) > 1 else None
    return Offline("sha256:b", bundles[0], bundles[0].snapshot, champion=champion)


def two_classes(noise: float, draw: np.random.Generator, positive: np.ndarray) -> Scores:
    score = 1 / (1 + np.exp(-(2.0 * positive - 1 + draw.normal(0, noise, len(positive)))))
    return Scores(np.column_stack([1 - score, score]), np.where(score >= 0.5, "true", "false").astype(object))


def taken(world: Offline) -> Figures:
    found = take_figures(world)
    assert found is not None
    return found


def test_figures_of_two_classes_are_those_of_scikit_learn(tmp_path: Path) -> None:
    positive = FIRST.random(ROWS) < 0.3
    ours, theirs = (two_classes(noise, np.random.default_rng(7), positive) for noise in (1.0, 3.0))
    truth = np.where(positive, "true", "false")
    found = taken(world(tmp_path, Task.BINARY, truth, ours, theirs))
    score, said = ours.numbers[:, 1], ours.labels == "true"
    expected = {
        Metric.ACCURACY: reference.accuracy_score(positive, said),
        Metric.PRECISION: reference.precision_score(positive, said),
        Metric.RECALL: reference.recall_score(positive, said),
        Metric.F1: reference.f1_score(positive, said),
        Metric.AUC: reference.roc_auc_score(positive, score),
        Metric.LOG_LOSS: reference.log_loss(positive, score),
        Metric.BRIER: reference.brier_score_loss(positive, score),
    }
    assert {each.metric: each.value for each in found.metrics} == pytest.approx(expected, rel=1e-4)
    (roc,) = found.roc
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1], len(roc.x)) == (0, 0, 1, 1, MOST_POINTS)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(expected[Metric.AUC], abs=2e-3)
    (precise,) = found.precision_recall
    base = reference.precision_recall_curve(positive, score)
    assert precise.y[-1] == pytest.approx(positive.mean(), rel=1e-4)
    assert np.interp(0.5, precise.x, precise.y) == pytest.approx(np.interp(0.5, base[1][::-1], base[0][::-1]), abs=0.02)
    assert found.confusion is not None
    assert np.array(found.confusion.counts).tolist() == reference.confusion_matrix(positive, said).tolist()
    assert sum(each.rows for each in found.calibration) == ROWS


def test_what_changes_against_the_champion_is_counted(tmp_path: Path) -> None:
    positive = FIRST.random(ROWS) < 0.3
    ours, theirs = (two_classes(noise, np.random.default_rng(7), positive) for noise in (1.0, 3.0))
    assert ours.labels is not None and theirs.labels is not None
    truth = np.where(positive, "true", "false")
    versus = taken(world(tmp_path, Task.BINARY, truth, ours, theirs)).versus
    assert versus is not None
    changed = ours.labels != theirs.labels
    assert (versus.rows, versus.changed) == (ROWS, int(changed.sum()))
    assert versus.better == int((changed & (ours.labels == truth)).sum())
    assert versus.better + versus.worse == versus.changed
    assert {(each.before, each.after) for each in versus.moves} == {(0, 1), (1, 0)}
    assert sum(each.rows for each in versus.moves) == versus.changed
    assert versus.mean_shift == pytest.approx(np.abs(ours.numbers - theirs.numbers)[:, 1].mean(), rel=1e-4)
    assert versus.scores is not None and versus.scores.champion is not None
    assert sum(versus.scores.candidate) == sum(versus.scores.champion) == ROWS
    assert {each.metric: each.candidate > each.champion for each in versus.metrics}[Metric.AUC]


def test_several_classes_have_a_curve_each_and_the_champions_order_does_not_matter(tmp_path: Path) -> None:
    numbers = FIRST.integers(0, 3, ROWS)
    shown = FIRST.dirichlet([1, 1, 1], ROWS) + np.eye(3)[numbers]
    shown /= shown.sum(axis=1, keepdims=True)
    scores = Scores(shown, np.array(["0", "1", "2"], dtype=object)[shown.argmax(axis=1)])
    made = world(tmp_path, Task.MULTICLASS, numbers.astype(str), scores, scores)
    turned = [2, 0, 1]
    assert made.champion is not None
    output = made.champion.description.output
    reordered = output.model_copy(update={"classes": tuple(output.classes[each] for each in turned)})
    description = made.champion.description.model_copy(update={"output": reordered})
    champion = replace(made.champion, description=description)
    champion.__dict__["asked"] = (np.ones(ROWS, dtype=bool), Scores(shown[:, turned], scores.labels))
    found = taken(replace(made, champion=champion))
    assert sorted(str(each.position) for each in found.roc) == ["0", "1", "2"]
    auc = {each.metric: each.value for each in found.metrics}[Metric.AUC]
    assert auc == pytest.approx(reference.roc_auc_score(numbers, shown, multi_class="ovr"), rel=1e-4)
    assert found.versus is not None
    assert (found.versus.changed, found.versus.mean_shift, found.versus.moves) == (0, 0.0, ())


def test_a_regression_has_residuals_and_a_sample_of_its_rows(tmp_path: Path) -> None:
    truth = FIRST.normal(50, 10, ROWS)
    ours = Scores((truth + FIRST.normal(0, 1, ROWS)).reshape(-1, 1))
    theirs = Scores((truth + FIRST.normal(5, 1, ROWS)).reshape(-1, 1))
    found = taken(world(tmp_path, Task.REGRESSION, truth, ours, theirs))
    expected = {
        Metric.RMSE: reference.root_mean_squared_error(truth, ours.values),
        Metric.MAE: reference.mean_absolute_error(truth, ours.values),
        Metric.R2: reference.r2_score(truth, ours.values),
    }
    assert {each.metric: each.value for each in found.metrics} == pytest.approx(expected, rel=1e-4)
    assert found.residuals is not None and sum(found.residuals.candidate) == ROWS
    assert found.values is not None and len(found.values.x) == MOST_POINTS
    assert found.versus is not None and found.versus.better > found.versus.worse
    assert found.versus.changed == int((np.abs(ours.values - theirs.values) > 0.01 * np.abs(theirs.values)).sum())
    assert taken(world(tmp_path / "again", Task.REGRESSION, truth, ours, theirs)) == found


def test_rows_that_somebody_was_trained_on_are_in_no_figure(tmp_path: Path) -> None:
    positive = FIRST.random(100) < 0.5
    scores = two_classes(1.0, FIRST, positive)
    seen = np.arange(100) < 60
    found = taken(world(tmp_path, Task.BINARY, np.where(positive, "true", "false"), scores, scores, trained_on=seen))
    assert found.versus is not None
    assert (found.rows, found.versus.rows) == (40, 40)


@pytest.mark.parametrize(
    ("truth", "numbers"),
    [
        (["true"] * 4, [0.1, 0.2, 0.3, 0.4]),
        (["true", "false"], [0.5, 0.5]),
        (["true", "false"], [np.nan, 0.5]),
        (["true", "stranger"], [0.9, 0.1]),
        ([], []),
    ],
)
def test_odd_rows_leave_out_what_can_not_be_taken(tmp_path: Path, truth: list[str], numbers: list[float]) -> None:
    score = np.array(numbers, dtype=float)
    answers = Scores(np.column_stack([1 - score, score]), np.array(["true"] * len(score), dtype=object))
    found = taken(world(tmp_path, Task.BINARY, np.array(truth, dtype=object), answers, answers))
    assert found.rows == len(truth)
    assert Figures.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("values", [[1.0, 1.0], [1e20, 2.0], [np.inf, 1.0], [1e-300, 1e-301], [1e6, 1e6 + 1e-3]])
def test_odd_values_of_a_regression_hold_nothing_up(tmp_path: Path, values: list[float]) -> None:
    numbers = np.array(values)
    found = taken(world(tmp_path, Task.REGRESSION, np.array([1.0, 2.0]), *[Scores(numbers.reshape(-1, 1))] * 2))
    assert Figures.model_validate_json(found.model_dump_json()) == found


def test_a_real_model_of_each_task_is_drawn(tmp_path: Path) -> None:
    for task in Task:
        path, digest = make_typed_bundle(tmp_path / task, task)
        description = Description.read(json.loads((path / "bundle.json").read_bytes()))
        rows = [ROW | {"label": -200.0 * (number % 2) + number} for number in range(20)]
        truth = [answer_of(task, row)["prediction"] for row in rows]
        target = truth if task is Task.REGRESSION else list(map(label_text, truth))
        output, features = description.output, tuple(map(Feature.read, description.features))
        described = SnapshotDescription("typed-model", "y", output.positive, output.classes, features, (), task)
        snapshot = Snapshot(pd.DataFrame(rows).assign(y=target), described, "sha256:e")
        bundle = OpenedBundle(path, description, snapshot)
        found = taken(Offline(digest, bundle, snapshot, champion=bundle))
        best = {each.metric: each.value for each in found.metrics}
        assert best[Metric.R2 if task is Task.REGRESSION else Metric.ACCURACY] == pytest.approx(1.0)
        assert found.versus is not None and found.versus.changed == 0


def test_a_model_that_can_not_be_asked_has_no_figures(tmp_path: Path) -> None:
    made = world(tmp_path, Task.BINARY, np.array(["true"]), Scores(np.zeros((1, 2)), np.array(["true"], dtype=object)))
    broken = replace(made.candidate, path=tmp_path / "none")
    broken.__dict__.pop("asked", None)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/model.onnx").write_bytes(b"no model")
    assert take_figures(replace(made, candidate=broken)) is None


@pytest.mark.parametrize(
    "figures",
    [
        {"rows": -1},
        {"rows": 1, "more": 1},
        {"rows": 1, "metrics": [{"metric": "<b>", "value": 1}]},
        {"rows": 1, "metrics": [{"metric": "accuracy", "value": 1e31}]},
        {"rows": 1, "metrics": [{"metric": "accuracy", "value": "<b>"}]},
        {"rows": 1, "roc": [{"x": [0] * 201, "y": [0] * 201}]},
        {"rows": 1, "roc": [{"x": [0, 1], "y": [0]}]},
        {"rows": 1, "roc": [{"x": [0], "y": [0], "position": "<b>"}]},
        {"rows": 1, "roc": [{"x": [0], "y": [0]}] * 7},
        {"rows": 1, "residuals": {"edges": [0, 1], "candidate": [1, 2]}},
        {"rows": 1, "residuals": {"edges": [1, 0], "candidate": [1]}},
        {"rows": 1, "confusion": {"positions": [0, 1], "counts": [[1, 2], [3]]}},
        {"rows": 1, "confusion": {"positions": list(range(13)), "counts": [[1] * 13] * 13}},
        {"rows": 1, "versus": {"rows": 1, "changed": 0, "better": 0, "worse": 0, "mean_shift": "1<script>"}},
    ],
)
def test_a_hostile_job_can_send_no_more_than_numbers(tmp_path: Path, figures: dict[str, Any]) -> None:
    def run(task: bytes, files: Any) -> bytes:
        names = [gate.name for gate in GATES.of_the_bundle]
        results = [{"name": name, "verdict": "passed", "message": "PASS"} for name in names]
        return json.dumps({"results": results, "figures": figures}).encode()

    (tmp_path / "bundle").mkdir()
    material = Material(digest_of(b""), tmp_path / "bundle", None, tmp_path / "evaluation", None)
    found = ask_offline(run, GATES, policy(), material)
    assert found.figures is None
    (result,) = found.results
    assert (result.name, result.verdict) == ("artifact_safety", Verdict.ERROR)


def test_numbers_that_are_sent_come_through_and_back_from_the_journal(tmp_path: Path) -> None:
    sent = Figures(rows=2, roc=(Line(x=(0.0, 1.0), y=(0.0, 1.0)),), residuals=Histogram(edges=(0, 1), candidate=(2,)))

    def run(task: bytes, files: Any) -> bytes:
        results = [{"name": gate.name, "verdict": "passed", "message": "PASS"} for gate in GATES.of_the_bundle]
        return json.dumps({"results": results, "figures": sent.model_dump(mode="json")}).encode()

    (tmp_path / "bundle").mkdir()
    material = Material(digest_of(b""), tmp_path / "bundle", None, tmp_path / "evaluation", None)
    found = ask_offline(run, GATES, policy(), material)
    assert found.figures == sent
    kept = json.loads(json.dumps(found.as_json()))
    assert Measured.from_json(kept) == found
    assert Measured.from_json(kept["results"]) == replace(found, figures=None)


def test_a_job_that_fails_has_no_figures(tmp_path: Path) -> None:
    def run(task: bytes, files: Any) -> bytes:
        raise JobFailed("it met a bound")

    (tmp_path / "bundle").mkdir()
    material = Material(digest_of(b""), tmp_path / "bundle", None, tmp_path / "evaluation", None)
    assert ask_offline(run, GATES, policy(), material).figures is None
