import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import OnnxModel, Scores, ServedModel
from pipelines.packaging.snapshot import SnapshotDescription, read_snapshot
from pipelines.training.prepare import prepare
from pipelines.training.score import largest_difference, score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace
from tests.support.world import trained

ROOT = Path(__file__).parents[3]

OF_TWO = SnapshotDescription("toy-model", "y", "a", ("a", "b"), (), ())


def project_with(root: Path, estimator: dict[str, Any] | None) -> dict[str, float]:
    """Train the project's own model in `root`, with another estimator if one is given; return its metrics."""
    body = yaml.safe_load((ROOT / "model.yaml").read_text(encoding="utf-8"))
    if estimator:
        body["estimator"] = estimator
    (root / "model.yaml").write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    shutil.copytree(ROOT / "data/raw", root / "data/raw")
    made = Workspace(root)
    for stage in (prepare, train, score):
        stage(made)
    metrics: dict[str, float] = json.loads(made.metrics.read_text(encoding="utf-8"))
    return metrics


def test_the_projects_model_reaches_its_known_quality(tmp_path: Path) -> None:
    metrics = project_with(tmp_path, None)
    assert metrics["accuracy"] == pytest.approx(0.797, abs=0.003)
    assert metrics["roc_auc"] == pytest.approx(0.842, abs=0.002)
    assert metrics["onnx_max_abs_difference"] <= 1e-5


def test_gradient_boosting_needs_nothing_but_another_estimator(tmp_path: Path) -> None:
    metrics = project_with(tmp_path, trained.GRADIENT_BOOSTING)
    assert metrics["accuracy"] > 0.78
    assert metrics["onnx_max_abs_difference"] <= 1e-5


@pytest.mark.parametrize("changes", [{}, {"estimator": trained.GRADIENT_BOOSTING}], ids=["linear", "trees"])
def test_another_data_set_trains_and_its_export_answers_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = trained.trained(tmp_path, **changes)
    evaluation = read_snapshot(made.evaluation)
    predictions = pd.read_parquet(made.predictions)
    model = ServedModel.wired(OnnxModel.load(made.onnx_model), evaluation.description.features)
    scores = model.score(evaluation.features)
    assert list(predictions["label"]) == list(scores.labels)
    assert np.allclose(predictions["probability"], scores.numbers[:, 0], atol=1e-5, rtol=0.0)
    dtypes = {"height": "float32", "age": "float32", "potted": "float32", "soil": "string"}
    assert {each.name: each.dtype for each in model.inputs} == dtypes


@pytest.mark.parametrize("changes", [{}, {"estimator": trained.GRADIENT_BOOSTING}], ids=["linear", "trees"])
def test_training_twice_gives_the_same_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    first, second = (trained.trained(tmp_path / name, **changes) for name in "ab")
    assert first.sklearn_model.read_bytes() == second.sklearn_model.read_bytes()
    assert first.onnx_model.read_bytes() == second.onnx_model.read_bytes()
    assert first.predictions.read_bytes() == second.predictions.read_bytes()
    assert first.metrics.read_bytes() == second.metrics.read_bytes()


def test_trees_are_fitted_on_numbers_as_they_are_served(tmp_path: Path) -> None:
    frame = trained.plants()
    # These two differ in float64 only: a tree that saw the difference could not be served as float32.
    tall = frame["outcome"] == "flowers"
    frame["height"] = tall.map({True: "33554433.0", False: "33554432.0"})
    made = trained.workspace(tmp_path, frame, estimator=trained.GRADIENT_BOOSTING)
    for stage in (prepare, train, score):
        stage(made)
    majority = read_snapshot(made.evaluation).target.value_counts(normalize=True).max()
    # Nor may it learn from the difference, and then send every served row to the same side.
    assert majority < json.loads(made.metrics.read_text(encoding="utf-8"))["accuracy"] < 1.0


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ({"path": "sklearn.linear_model.Nonsense"}, "does not exist"),
        ({"path": "sklearn.linear_model.LogisticRegression", "parameters": {"trees": 3}}, "argument 'trees'"),
        ({"path": "os.system"}, "is not a class"),
        ({"path": "subprocess.Popen", "parameters": {"args": "true"}}, "is not an estimator"),
        ({"path": "sklearn.linear_model.LinearRegression"}, "is no classifier, which task binary needs"),
        ({"path": "sklearn.metrics.accuracy_score"}, "is not a class"),
    ],
)
def test_an_estimator_that_cannot_serve_is_refused(tmp_path: Path, estimator: dict[str, Any], message: str) -> None:
    made = trained.workspace(tmp_path, estimator=estimator)
    prepare(made)
    with pytest.raises(UsageError, match=message):
        train(made)


@pytest.mark.parametrize(
    ("trained", "probability", "label"),
    [(0.5, 0.50002, "a"), (0.51, 0.51, "b"), (0.5, float("nan"), "a")],
    ids=["far", "label", "nan"],
)
def test_an_export_that_answers_otherwise_is_refused(trained: float, probability: float, label: str) -> None:
    predictions = pd.DataFrame({"probability": [trained], "label": ["a"]})
    scores = Scores(np.array([[probability, 1 - probability]]), np.array([label], dtype=object))
    with pytest.raises(NotServable, match="of 1 evaluation rows"):
        largest_difference(predictions, scores, OF_TWO, order=("a", "b"))


def test_in_a_tie_either_label_is_right() -> None:
    predictions = pd.DataFrame({"probability": [0.5], "label": ["a"]})
    scores = Scores(np.array([[0.5, 0.5]]), np.array(["b"], dtype=object))
    assert largest_difference(predictions, scores, OF_TWO, order=("a", "b")) == 0.0


def test_an_export_within_the_tolerance_is_measured() -> None:
    predictions = pd.DataFrame({"probability": [0.5], "label": ["a"]})
    scores = Scores(np.array([[0.500009, 0.499991]]), np.array(["a"], dtype=object))
    assert largest_difference(predictions, scores, OF_TWO, order=("a", "b")) == pytest.approx(9e-6)
