"""A registered version as its consumers open it in a real MLflow, against what the service answers."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from app.model.bundle import read_bundle
from app.model.scoring import Scorer, load
from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.served_flavor import log_served
from pipelines.adapters.mlflow.training_run import register
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.domain.description import Golden, tolerance_of
from pipelines.packaging.confined import Read
from pipelines.packaging.package import make_bundle
from pipelines.packaging.served import request_value
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import JobBounds
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world import trained
from tests.support.world.fakes import FakeJobs
from tests.support.world.typed_bundles import FEATURES, ROW, make_typed_bundle

# MLflow warns of its own code as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
NAMES = [feature["name"] for feature in FEATURES]
ROWS = [ROW, *({**ROW, name: None} for name in NAMES if name != "label"), {"label": 1.0}]


@pytest.fixture(autouse=True)
def _address(mlflow_uri: str) -> Iterator[None]:
    mlflow.set_tracking_uri(mlflow_uri)
    yield
    mlflow.set_tracking_uri("http://127.0.0.1:9")


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def typed(
    request: pytest.FixtureRequest, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Scorer]:
    """Register a model with a feature of each type; return its address, and what a replica loads of its bundle."""
    path, digest = make_typed_bundle(tmp_path_factory.mktemp(request.param), request.param)
    body = json.loads((path / "bundle.json").read_bytes())
    golden = Golden.model_validate(body["golden"])
    golden = golden.model_copy(update={"tolerance": tolerance_of(golden.expected)})
    read = Read.model_validate({key: body[key] for key in Read.model_fields} | {"golden": golden})
    name = f"consumed-{request.param}"
    mlflow.set_tracking_uri(mlflow_uri)
    mlflow.set_experiment(name)
    with mlflow.start_run():
        made = mlflow.register_model(log_served(path / "model.onnx", read).model_uri, name)
    MlflowClient(mlflow_uri).set_registered_model_alias(name, "production", made.version)
    return f"models:/{name}@production", load(read_bundle(path, digest=digest))


def served(scorer: Scorer, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    decoded = scorer.schema.decode_batch(msgspec.json.encode({"rows": rows}))
    return [msgspec.to_builtins(answer) for answer in scorer.score_rows(decoded)]


def opened(address: str) -> Any:
    return mlflow.pyfunc.load_model(address)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(json.dumps(frame.to_dict(orient="records")))  # type: ignore[no-any-return]


def test_a_frame_is_answered_as_the_service_answers_its_rows(typed: tuple[str, Scorer]) -> None:
    address, scorer = typed
    model = opened(address)
    plain = pd.DataFrame(ROWS, columns=NAMES)
    times = pd.to_datetime(plain["at"], utc=True)
    for frame in (
        plain,
        plain.assign(at=times, day=pd.to_datetime(plain["day"]), kind=plain["kind"].astype("category")),
        plain.assign(at=times.dt.tz_convert("Asia/Tokyo"), count=plain["count"].astype("Int64"), id="of no feature"),
        plain.assign(label=plain["label"].astype("int64"), flag=plain["flag"].astype("boolean")),
    ):
        assert records(model.predict(frame)) == served(scorer, ROWS)
    assert records(model.predict(ROW)) == served(scorer, [ROW])


def test_the_signature_says_what_is_answered(typed: tuple[str, Scorer]) -> None:
    model = opened(typed[0])
    found = model.predict(pd.DataFrame([ROW]))
    outputs = model.metadata.get_output_schema()
    assert outputs is not None and outputs.input_names() == list(found.columns)
    kinds = {"boolean": "bool", "long": "int64", "double": "float64"}
    for column, kind in zip(outputs.input_names(), outputs.input_types(), strict=True):
        assert found[column].dtype == kinds.get(getattr(kind, "name", ""), "object")
    inputs = model.metadata.get_input_schema()
    assert inputs is not None and (inputs.input_names(), inputs.required_input_names()) == (NAMES, ["label"])


def test_what_the_service_refuses_is_refused_by_row_and_column(typed: tuple[str, Scorer]) -> None:
    model = opened(typed[0])
    frame = pd.DataFrame([ROW, ROW | {"kind": "z", "count": 2.5}])
    with pytest.raises(ValueError, match=r"2 field\(s\) refused: rows\.1\.count: Input should be") as refused:
        model.predict(frame)
    assert [tuple(each) for each in refused.value.faults][1] == (1, "kind", "Input should be 'a' or 'b'")  # type: ignore[attr-defined]
    with pytest.raises(MlflowException, match=r"Model is missing inputs \['label'\]"):
        model.predict(frame.drop(columns="label"))


def test_the_command_line_of_mlflow_answers_the_same(typed: tuple[str, Scorer], tmp_path: Path) -> None:
    address, scorer = typed
    kind = "csv" if "multiclass" in address else "json"
    frame = pd.DataFrame(ROWS, columns=NAMES)
    text = frame.to_csv(index=False) if kind == "csv" else json.dumps({"dataframe_records": ROWS})
    (tmp_path / "rows").write_text(text)
    from mlflow.models.cli import commands

    words = ["predict", "-m", address, "--env-manager", "local", "-t", kind]
    done = CliRunner().invoke(commands, [*words, "-i", str(tmp_path / "rows"), "-o", str(tmp_path / "answers")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "answers").read_text()) == {"predictions": served(scorer, ROWS)}


@pytest.mark.parametrize("typed", ["binary"], indirect=True)
def test_both_flavors_stay_and_nothing_of_slipway_is_needed(typed: tuple[str, Scorer], mlflow_uri: str) -> None:
    address, _ = typed
    program = f"""
import sys, json, mlflow, pandas
sys.path = [each for each in sys.path if each not in ("", {str(Path(__file__).parents[2])!r})]
class Absent:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in ("app", "pipelines", "loadtests", "onnx", "sklearn"), name
sys.meta_path.insert(0, Absent())
print(len(mlflow.pyfunc.load_model({address!r}).predict(pandas.DataFrame([{ROW!r}]))))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_uri},
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert {each.name for each in mlflow.onnx.load_model(address).graph.input} == set(NAMES)
    wanted = {each.split("==")[0] for each in Path(mlflow.pyfunc.get_model_dependencies(address)).read_text().split()}
    assert {"mlflow", "numpy", "onnxruntime", "pandas"} <= wanted


def packaged(mlflow_uri: str, root: Path, name: str) -> Scorer:
    registry, store = MlflowModelRegistry(mlflow_uri), BundleStore(root / "bundles")
    bounds = JobBounds(wall_s=60, memory_mb=2048)
    made = make_bundle(
        registry, store, lambda task, files: FakeJobs(root / "jobs").run(task, files, bounds), registry.newest(name),
        pinned=None, fallback_evaluation=lambda: None, workdir=root / "work",
    )  # fmt: skip
    return load(read_bundle(store.path(made.digest), digest=made.digest))


def test_a_trained_tree_is_opened_as_it_is_served_and_its_loader_is_not_run(mlflow_uri: str, tmp_path: Path) -> None:
    made = trained.trained(tmp_path / "tree", name="consumed-plants")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        register(made, mlflow_uri, made.root)
    mlflow.set_tracking_uri(mlflow_uri)
    version = MlflowModelRegistry(mlflow_uri).newest("consumed-plants")
    evaluation = read_snapshot(made.evaluation)
    found = records(opened(f"models:/consumed-plants/{version.version}").predict(evaluation.features))

    (code,) = Path(mlflow.artifacts.download_artifacts(version.source, dst_path=str(tmp_path / "model"))).glob("code/*")
    MlflowTrainer(mlflow_uri).overwrite(version, f"code/{code.name}", b"raise SystemExit('a stranger was run')")
    scorer = packaged(mlflow_uri, tmp_path, "consumed-plants")
    rows = [
        {each.name: request_value(each, row[each.name]) for each in evaluation.description.features}
        for _, row in evaluation.features.iterrows()
    ]
    assert found == served(scorer, rows)
    assert not list((tmp_path / "work").rglob("*.py"))
