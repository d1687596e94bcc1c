"""From a file to a served answer, for each task: what the service says is what the trained model said."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml

from app.model.bundle import read_bundle
from app.model.scoring import Scorer, load
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.domain.bundle import FeatureType
from pipelines.errors import UsageError
from pipelines.operator.model_init import init_model
from pipelines.packaging.package import make_bundle
from pipelines.packaging.served import request_value
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import JobBounds
from pipelines.training.prepare import prepare
from pipelines.training.score import score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace
from tests.support.world.fakes import FakeJobs, FakeModelRegistry

ROWS = 600
LINEAR = {"path": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 500}}
RIDGE = {"path": "sklearn.linear_model.Ridge"}
TREES = {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "parameters": {"max_iter": 20, "max_leaf_nodes": 6}}
BOOSTED = {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "parameters": {"max_iter": 20}}
FEATURES = {
    "count": {"type": "integer", "nullable": True},
    "net weight": {"type": "number", "nullable": True},
    "flag": {"type": "boolean", "nullable": True},
    "kind": {"type": "category", "nullable": True},
    "day": {"type": "date", "nullable": True},
    "at": {"type": "datetime", "nullable": True},
    "value": {"type": "number"},
}
SIGNATURE = {
    "count": "double", "net weight": "double", "flag": "boolean", "kind": "string", "day": "datetime",
    "at": "datetime", "value": "double",
}  # fmt: skip


def rows_of_all_types() -> pd.DataFrame:
    """Return rows with a column of each type, a tenth of its values missing but for one, and what they decide."""
    draw = np.random.default_rng(3)
    hour = draw.integers(0, 24, ROWS)
    frame = pd.DataFrame({
        "count": draw.integers(0, 30, ROWS).astype(str),
        "net weight": draw.normal(3, 1, ROWS).round(3).astype(str),
        "flag": draw.choice(["true", "false"], ROWS),
        "kind": draw.choice(["a", "b", "c"], ROWS),
        "day": [f"2024-{month:02}-11" for month in draw.integers(1, 13, ROWS)],
        "at": [f"2024-05-{1 + each % 28:02}T{each:02}:30:{each:02}Z" for each in hour],
        "value": draw.normal(0, 2, ROWS).round(3).astype(str),
    })  # fmt: skip
    amount = frame["value"].astype(float) + (frame["kind"] == "b") * 2 + (hour > 12) * 3 + draw.normal(0, 0.3, ROWS)
    for name in list(FEATURES)[:-1]:
        frame.loc[draw.random(ROWS) < 0.1, name] = ""
    amount_class = np.digitize(amount, [0.5, 3.5])
    return frame.assign(id=np.arange(ROWS), amount=amount.round(4), over=amount > 2, size=amount_class)


def trained(root: Path, *, rows: pd.DataFrame | None = None, **described: Any) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    wanted = [*FEATURES, "id", described["target"]]
    (rows_of_all_types() if rows is None else rows)[wanted].to_csv(root / "rows.csv", index=False)
    body = {
        "name": "typed-model", "source": {"path": "rows.csv"}, "id_columns": ["id"], "features": FEATURES,
        "split": {"evaluation": 0.25, "reference": 0.2, "seed": 1}, **described,
    }  # fmt: skip
    (root / "model.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    made = Workspace(root)
    for stage in (prepare, train, score):
        stage(made)
    return made


def served(made: Workspace, signature: Mapping[str, str]) -> Scorer:
    """Package what was trained, and load it as a replica does."""
    registry, store, root = FakeModelRegistry(), BundleStore(made.root / "bundles"), made.root
    version = registry.register(
        "typed-model",
        onnx=made.onnx_model.read_bytes(),
        input_types=dict(signature),
        artifacts={
            "slipway/evaluation.parquet": made.evaluation.read_bytes(),
            "slipway/predictions.parquet": made.predictions.read_bytes(),
        },
        run_tags={},
    )
    bounds = JobBounds(wall_s=60, memory_mb=2048)
    packaged = make_bundle(
        registry, store, lambda task, files: FakeJobs(root / "jobs").run(task, files, bounds),
        registry.version("typed-model", version.version), pinned=None, fallback_evaluation=lambda: None,
        workdir=root / "work",
    )  # fmt: skip
    return load(read_bundle(store.path(packaged.digest), digest=packaged.digest))


def asked(scorer: Scorer, made: Workspace) -> list[dict[str, Any]]:
    """Return what the service answers to the rows of the evaluation set, sent as JSON."""
    evaluation = read_snapshot(made.evaluation)
    rows = [
        {each.name: request_value(each, row[each.name]) for each in evaluation.description.features}
        for _, row in evaluation.features.iterrows()
    ]
    decoded = scorer.schema.decode_batch(msgspec.json.encode({"rows": rows}))
    return [msgspec.to_builtins(answer) for answer in scorer.score_rows(decoded)]


@pytest.mark.parametrize("estimator", [RIDGE, BOOSTED], ids=["linear", "trees"])
def test_a_regression_is_served_as_it_was_trained(tmp_path: Path, estimator: dict[str, Any]) -> None:
    made = trained(tmp_path, target="amount", task="regression", estimator=estimator)
    answers = asked(served(made, SIGNATURE), made)
    expected = pd.read_parquet(made.predictions)["value"]
    assert [each["prediction"] for each in answers] == pytest.approx(expected.tolist(), abs=1e-4)
    assert msgspec.json.decode(made.metrics.read_bytes())["r2"] > 0.8


@pytest.mark.parametrize("estimator", [LINEAR, TREES], ids=["linear", "trees"])
def test_several_classes_are_answered_by_their_own_type(tmp_path: Path, estimator: dict[str, Any]) -> None:
    made = trained(tmp_path, target="size", task="multiclass", labels="integer", estimator=estimator)
    answers = asked(served(made, SIGNATURE), made)
    expected = pd.read_parquet(made.predictions)
    assert [each["prediction"] for each in answers] == [int(label) for label in expected["label"]]
    for text in "012":
        found = [each["probabilities"][text] for each in answers]
        assert found == pytest.approx(expected[f"probability:{text}"].tolist(), abs=1e-5)
    assert msgspec.json.decode(made.metrics.read_bytes())["macro_f1"] > 0.6


def test_truths_are_labels_and_come_back_as_such(tmp_path: Path) -> None:
    made = trained(tmp_path, target="over", positive=True, estimator=LINEAR)
    answers = asked(served(made, SIGNATURE), made)
    expected = pd.read_parquet(made.predictions)
    assert {type(each["prediction"]) for each in answers} == {bool}
    assert [each["probability"] for each in answers] == pytest.approx(expected["probability"].tolist(), abs=1e-5)


def test_times_of_any_year_are_served_as_they_were_trained_on(tmp_path: Path) -> None:
    rows = rows_of_all_types()
    rows.loc[::3, "at"] = "9999-12-31T23:59:59Z"
    rows.loc[1::3, "at"] = "0001-01-01T00:00:00Z"
    made = trained(tmp_path, rows=rows, target="amount", task="regression", estimator=BOOSTED)
    answers = [each["prediction"] for each in asked(served(made, SIGNATURE), made)]
    assert answers == pytest.approx(pd.read_parquet(made.predictions)["value"].tolist(), abs=1e-4)


def test_a_snapshot_keeps_types_and_what_is_missing(tmp_path: Path) -> None:
    made = trained(tmp_path, target="over", positive=True, estimator=LINEAR)
    snapshot = read_snapshot(made.train)
    assert {each.name: each.type for each in snapshot.description.features} == {
        name: FeatureType(rule["type"]) for name, rule in FEATURES.items()
    }
    missing = snapshot.features.isna().mean()
    assert missing.drop("value").between(0.03, 0.2).all() and missing["value"] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimator": RIDGE}, "Ridge is no classifier, which task binary needs"),
        ({"target": "amount", "positive": None, "task": "regression"}, "is no regressor, which task regression needs"),
        ({"positive": None}, "give positive, the label whose probability is answered, or task"),
        ({"task": "multiclass"}, "task: multiclass has no positive label"),
        ({"labels": "text"}, "positive: True is no label of type text"),
        ({"features": {"value": {"type": "text", "maximum_length": 9}}, "ignore": [*FEATURES][:-1]}, "are texts"),
        ({"features": FEATURES | {"count": {"type": "integer"}}}, "column count: .* is missing, and neither blank nor"),
        ({"features": FEATURES | {"kind": {"type": "boolean", "nullable": True}}}, "is neither true nor false"),
        ({"features": FEATURES | {"kind": {"type": "date", "nullable": True}}}, "is no date as ISO 8601 writes it"),
        ({"features": FEATURES | {"at": {"type": "text", "maximum_length": 3, "nullable": True}}}, "is longer than 3"),
        ({"labels": "integer", "positive": 1}, "is no label of type integer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    described = {"target": "over", "positive": True, "estimator": LINEAR} | change
    with pytest.raises(UsageError, match=message):
        trained(tmp_path, **{name: value for name, value in described.items() if value is not None})


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("amount", {"task": "regression"}),
        ("size", {"task": "multiclass", "labels": "integer"}),
        ("over", {"positive": True}),
    ],
)
def test_what_is_proposed_for_a_file_trains_as_it_stands(tmp_path: Path, target: str, wanted: dict[str, Any]) -> None:
    rows_of_all_types()[[*FEATURES, "id", target]].to_csv(tmp_path / "rows.csv", index=False)
    body, _ = init_model(tmp_path, tmp_path / "rows.csv", target=target, name="typed-model", ids=(), force=False)
    assert wanted.items() <= body.items()
    assert body["features"] == FEATURES
    assert body["id_columns"] == ["id"]
    for stage in (prepare, train, score):
        stage(Workspace(tmp_path))


def test_a_threshold_between_neighbours_in_float32_parts_them_in_onnx_too(tmp_path: Path) -> None:
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    if np.float32((float(low) + float(high)) / 2) == low:
        low, high = high, np.nextafter(high, np.float32(1))
    values = np.where(np.arange(400) % 2 == 0, float(low), float(high))
    frame = pd.DataFrame({"id": np.arange(400), "value": values, "amount": np.where(values == float(low), -50.0, 50.0)})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    body = {
        "name": "typed-model", "source": {"path": "rows.csv"}, "target": "amount", "task": "regression",
        "id_columns": ["id"], "features": {"value": {"type": "number"}}, "estimator": BOOSTED,
        "split": {"evaluation": 0.25, "reference": 0.2, "seed": 1},
    }  # fmt: skip
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    for stage in (prepare, train, score):
        stage(Workspace(tmp_path))
    assert msgspec.json.decode(Workspace(tmp_path).metrics.read_bytes())["r2"] > 0.5
