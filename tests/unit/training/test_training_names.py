"""A column keeps its own name, whatever it is, from model.yaml to the answer of the service."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from app.model.bundle import read_bundle
from app.model.scoring import load
from pipelines.adapters.mlflow.training_run import parameters
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.errors import UsageError
from pipelines.packaging.onnx_model import OnnxModel, ServedModel
from pipelines.packaging.package import make_bundle
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import JobBounds
from pipelines.training.graph import rename
from pipelines.training.model_file import ModelFile
from pipelines.training.workspace import Workspace
from tests.support.world import trained
from tests.support.world.estimator_table import COMPOSED, estimator
from tests.support.world.fakes import FakeJobs, FakeModelRegistry

# Of four columns each; several collide once they are made identifiers.
NAMES = (
    ("label", "probabilities", "output_label", "input_3"),
    ("gross weight", "gross-weight", "gross.weight", "gross_weight"),
    ("km/h", "100%", "a, b [c]", "Größe (㎡)"),
    ("1st", "variable", "merged_columns", "label_number"),
)


def renamed(root: Path, names: tuple[str, ...], **changes: object) -> Workspace:
    """Train on `plants` under other names."""
    new = dict(zip(("height", "age", "potted", "soil"), names, strict=True))
    rules = trained.describe("")["features"]
    return trained.workspace(
        root,
        trained.plants().rename(columns=new),
        features={new[name]: rule for name, rule in rules.items()},
        protected=[new["potted"]],
        **changes,
    )


def run_stages(made: Workspace) -> Workspace:
    for stage in trained.STAGES:
        stage(made)
    return made


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_the_service_answers_by_the_columns_own_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = run_stages(renamed(tmp_path / "tree", names))
    registry = FakeModelRegistry()
    registry.register(
        "plant-model",
        onnx=made.onnx_model.read_bytes(),
        input_types=dict(zip(names, ("double", "long", "long", "string"), strict=True)),
        artifacts={"slipway/evaluation.parquet": made.evaluation.read_bytes()},
        run_tags={},
    )
    store = BundleStore(tmp_path / "bundles")
    packaged = make_bundle(
        registry,
        store,
        lambda task, files: FakeJobs(tmp_path / "jobs").run(task, files, JobBounds(wall_s=60, memory_mb=2048)),
        registry.newest("plant-model"),
        pinned=None,
        fallback_evaluation=lambda: None,
        workdir=tmp_path / "work",
    )
    scorer = load(read_bundle(store.path(packaged.digest), digest=packaged.digest))
    rows = [scorer.schema.decode_row(msgspec.json.encode(row)) for row in packaged.rows]
    predictions = pd.read_parquet(made.predictions).head(len(rows))
    answers = [scorer.score_row(row) for row in rows]
    assert set(packaged.rows[0]) == set(names)
    assert [answer.prediction for answer in answers] == list(predictions["label"])
    assert np.allclose([answer.probability for answer in answers], predictions["probability"], atol=1e-5, rtol=0.0)


def test_columns_of_an_estimators_own_are_found_by_their_names(tmp_path: Path) -> None:
    text = json.dumps(COMPOSED["`Pipeline` of `ColumnTransformer` and `LogisticRegression`, `encoded: false`"])
    names = ("gross weight", "gross-weight", "label", "a [b], %")
    for old, new in zip(("height", "age", "potted", "soil"), names, strict=True):
        text = text.replace(f'"{old}"', json.dumps(new))
    made = run_stages(renamed(tmp_path, names, estimator=json.loads(text)))
    assert json.loads(made.metrics.read_text())["onnx_max_abs_difference"] <= 1e-5
    assert {each.name for each in OnnxModel.load(made.onnx_model).inputs} == set(names)


def test_the_outputs_make_way_for_inputs_of_their_names(tmp_path: Path) -> None:
    made = run_stages(renamed(tmp_path, NAMES[0]))
    model = OnnxModel.load(made.onnx_model)
    assert (model.label, model.probabilities) == ("output_output_label", "output_probabilities")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb"])
def test_a_name_that_no_request_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    made = renamed(tmp_path, (name, "b", "c", "d"))
    with pytest.raises(UsageError, match="can't be a field of a request") as refusal:
        run_stages(made)
    assert "double quotes, backslashes" in refusal.value.next


def test_names_inside_of_nested_graphs_are_renamed_alike() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["input_0", "weight"], ["sum"])],
        "inner",
        [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["always"], ["probabilities"], then_branch=inner, else_branch=inner),
            helper.make_node("Identity", ["input_0"], ["label"]),
        ],
        "outer",
        [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("label", "probabilities")],
        [
            helper.make_tensor("always", TensorProto.BOOL, [], [True]),
            helper.make_tensor("weight", TensorProto.FLOAT, [1, 1], [1.0]),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    rename(proto, {"input_0": "weight"})
    onnx.checker.check_model(proto, full_check=True)
    then = proto.graph.node[0].attribute[0].g.node[0]
    assert list(then.input) == ["weight", "weight_1"]
    assert [each.name for each in proto.graph.initializer] == ["always", "weight_1"]


def test_a_model_that_never_answers_two_of_its_labels_is_taken_in(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[frame.index[::40], "outcome"] = "lost"
    frame.loc[frame.index[1::40], "outcome"] = "returned"
    made = run_stages(trained.workspace(tmp_path, frame))
    assert set(pd.read_parquet(made.predictions)["label"]) == {"flowers", "green"}
    assert OnnxModel.load(made.onnx_model).classes == ("flowers", "green", "lost", "returned")


def test_numbered_labels_are_answered_as_texts(tmp_path: Path) -> None:
    # As XGBoost, which takes nothing else.
    made = trained.workspace(tmp_path, estimator=estimator("sklearn.linear_model.LogisticRegression"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipelines.training.parts._NUMERIC_LABELS", ("LogisticRegression",))
        run_stages(made)
    evaluation = read_snapshot(made.evaluation)
    model = OnnxModel.load(made.onnx_model)
    scores = ServedModel.wired(model, evaluation.description.features).score(evaluation.features)
    assert list(scores.labels) == list(pd.read_parquet(made.predictions)["label"])
    assert set(scores.labels) == {"flowers", "green"}


def test_mlflow_is_given_names_that_it_takes_and_all_settings(tmp_path: Path) -> None:
    made = renamed(tmp_path, ("a%b", "a,b", "a/b", "ä [kg]" * 21))
    settings = ModelFile.load(made.model_file).flattened()
    named = parameters(settings)
    assert sorted(named.values()) == sorted(settings.values())
    assert named["features.a_b.type"] == "number"
    assert (named["features.a_b.type 2"], named["features.a_b.type 3"]) == ("integer", "integer")
    from mlflow.utils.validation import _validate_param

    for name, value in named.items():
        _validate_param(name, value)
