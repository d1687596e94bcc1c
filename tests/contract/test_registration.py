"""From a trained working tree over a real MLflow to a bundle, and what must not get that far."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from mlflow import MlflowClient, set_tracking_uri

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.training_run import register
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, Refused, UsageError
from pipelines.operator.data_diff import data_diff
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.mlmodel import read_mlmodel
from pipelines.packaging.snapshot import read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.settings.settings import Settings
from pipelines.training.workspace import Workspace
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world import trained
from tests.support.world.packaged import package

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
DESCRIBED = {
    "flavors": {"onnx": {"data": "model.onnx"}},
    "signature": {"inputs": json.dumps([{"name": "height", "type": "double"}])},
}


def run_register(uri: str, root: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipelines.wiring.register", "--tracking-uri", uri, "--root", str(root)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return trained.trained(tmp_path_factory.mktemp("trained"), name="registered-plants")


@pytest.fixture(scope="module")
def registered(mlflow_uri: str, workspace: Workspace) -> dict[str, Any]:
    done = run_register(mlflow_uri, workspace.root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout
    result: dict[str, Any] = json.loads(lines[0])
    return result


@pytest.fixture
def registry(mlflow_uri: str) -> MlflowModelRegistry:
    return MlflowModelRegistry(mlflow_uri)


def test_registration_prints_one_line_and_logs_what_packaging_needs(
    registry: MlflowModelRegistry, registered: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    assert set(registered) == {"run_id", "accuracy", "model_version"}
    assert registered["accuracy"] == round(metrics["accuracy"], 4)
    version = registry.newest("registered-plants")
    assert (version.run_id, version.version) == (registered["run_id"], registered["model_version"])
    for name in ("evaluation.parquet", "predictions.parquet", "training-rows.parquet", "model.yaml"):
        assert registry.fetch_artifact(version.run_id, f"slipway/{name}", tmp_path) is not None


def test_a_registered_tree_becomes_a_bundle_twice_the_same(
    registry: MlflowModelRegistry, registered: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    version = registry.version("registered-plants", registered["model_version"])
    packaged = package(registry, tmp_path, version, None)
    tags = registry.run_tags(version.run_id)
    assert packaged.body["provenance"]["run_id"] == registered["run_id"]
    assert packaged.body["provenance"]["datasets"]["evaluation"] == tags["slipway.dataset.evaluation"]
    assert packaged.body["provenance"]["datasets"]["train"] == tags["slipway.dataset.train"]
    types = {feature["name"]: feature["type"] for feature in packaged.body["features"]}
    assert types == {name: rule["type"] for name, rule in trained.describe("")["features"].items()}
    # The tree is in no repository, and that of the program is not its own.
    assert packaged.body["provenance"]["git_commit"] is None
    assert tags["mlflow.source.git.branch"] == ""
    assert len(packaged.rows) == trained.EVALUATION_ROWS
    assert package(registry, tmp_path / "other", version, None).digest == packaged.digest
    assert package(registry, tmp_path, version, packaged.digest).digest == packaged.digest


def test_a_registered_tree_says_which_rows_it_was_trained_on_and_is_compared_with_the_present_data(
    registry: MlflowModelRegistry,
    mlflow_uri: str,
    registered: dict[str, Any],
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    version = registry.version("registered-plants", registered["model_version"])
    packaged = package(registry, tmp_path, version, None)
    assert packaged.training_rows is not None
    assert packaged.reference is not None
    assert packaged.body["provenance"]["datasets"]["reference"] == digest_of_file(packaged.reference)
    drawn = read_snapshot(packaged.reference)
    assert (drawn.digest, drawn.sampled_from) == (digest_of_file(workspace.reference), None)
    digest = digest_of_file(packaged.training_rows)
    assert packaged.body["provenance"]["datasets"]["training_rows"] == digest
    assert registry.run_tags(version.run_id)["slipway.dataset.training_rows"] == digest
    known = TrainingRows.read(packaged.training_rows)
    train, evaluation = (known.among(read_snapshot(path)) for path in (workspace.train, workspace.evaluation))
    assert train is not None
    assert evaluation is not None
    assert (len(known), train.all(), evaluation.any()) == (trained.ROWS - trained.EVALUATION_ROWS, True, False)

    trained.workspace(tmp_path / "project", trained.plants().drop(index=[0, 1]), name="registered-plants")
    environ = {"SLIPWAY_PROJECT": str(tmp_path / "project"), "SLIPWAY_HOME": str(tmp_path / "home")}
    settings = Settings.from_environ({**environ, "SLIPWAY_PORT_MLFLOW": mlflow_uri.rpartition(":")[2]})
    found, told = data_diff(version.version, ".", settings, environ, print)
    assert found.rows is not None
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 2, 0)
    assert "rows (by tag): 0 added, 2 removed, 0 changed" in told
    # Read by a confined job, of which nothing is left.
    assert not list((tmp_path / "home/jobs").iterdir())
    with pytest.raises(UsageError, match="production serves no version of registered-plants"):
        data_diff("production", ".", settings, environ, print)


def test_a_declared_change_of_the_schema_is_pinned_with_its_reason(
    registry: MlflowModelRegistry, mlflow_uri: str, workspace: Workspace, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(workspace.root, tree)
    body = yaml.safe_load((tree / "model.yaml").read_text(encoding="utf-8"))
    body |= {"name": "breaking-plants", "schema": {"change": "breaking", "reason": "the sensor is gone"}}
    body |= {"card": {"intended_use": "To water few plants."}}
    (tree / "model.yaml").write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    done = run_register(mlflow_uri, tree)
    assert done.returncode == 0, done.stderr
    version = registry.newest("breaking-plants")
    packaged = package(registry, tmp_path, version, None)
    assert packaged.body["provenance"]["breaking"] == "the sensor is gone"
    assert registry.run_tags(version.run_id)["slipway.card.intended_use"] == "To water few plants."


def test_columns_of_any_name_are_registered_and_packaged(
    registry: MlflowModelRegistry, mlflow_uri: str, tmp_path: Path
) -> None:
    names = ("gross weight [kg], net", "label", "100%", "Größe")
    new = dict(zip(("height", "age", "potted", "soil"), names, strict=True))
    features = {new[name]: rule for name, rule in trained.describe("")["features"].items()}
    made = trained.workspace(
        tmp_path / "tree",
        trained.plants().rename(columns=new),
        name="odd-plants",
        features=features,
        protected=[],
    )
    for stage in trained.STAGES:
        stage(made)
    done = run_register(mlflow_uri, made.root)
    assert done.returncode == 0, done.stderr
    version = registry.newest("odd-plants")
    body = package(registry, tmp_path, version, None).body
    assert tuple(feature["name"] for feature in body["features"]) == names
    assert (body["onnx"]["label"], body["onnx"]["probabilities"]) == ("output_label", "probabilities")
    logged = MlflowClient(mlflow_uri).get_run(version.run_id).data.params
    assert logged["features.gross weight _kg__ net.type"] == "number"


# MLflow warns of its own code as it is imported.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_an_artifact_overwritten_after_the_pin_is_refused(
    registry: MlflowModelRegistry, mlflow_uri: str, workspace: Workspace, tmp_path: Path
) -> None:
    register(workspace, mlflow_uri, workspace.root)
    set_tracking_uri("http://127.0.0.1:9")
    version = registry.newest("registered-plants")
    digest = package(registry, tmp_path, version, None).digest
    other = trained.trained(tmp_path / "other", estimator=trained.GRADIENT_BOOSTING)
    MlflowTrainer(mlflow_uri).overwrite(version, "model.onnx", other.onnx_model.read_bytes())
    with pytest.raises(Refused, match=rf"got sha256:\w+: the artifact of version {version.version}"):
        package(registry, tmp_path, version, digest)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "..", ""])
def test_a_model_file_outside_of_the_model_is_refused(
    registry: MlflowModelRegistry, mlflow_uri: str, workspace: Workspace, tmp_path: Path, name: str
) -> None:
    trainer = MlflowTrainer(mlflow_uri)
    version = trainer.register(
        "escaping-plants",
        onnx=workspace.onnx_model.read_bytes(),
        input_types={"height": "double"},
        artifacts={},
        run_tags={},
    )
    registry.fetch_model(version, tmp_path / "first")
    body = yaml.safe_load((tmp_path / "first" / "MLmodel").read_text(encoding="utf-8"))
    body["flavors"]["onnx"]["data"] = name
    trainer.overwrite(version, "MLmodel", yaml.safe_dump(body).encode())
    registry.fetch_model(version, tmp_path / "second")
    with pytest.raises(NotServable, match="as its model file"):
        read_mlmodel(tmp_path / "second", "version 1")


@pytest.mark.parametrize(
    "source",
    [
        "file:///etc",
        "/etc",
        "models:/m-1/../..",
        "s3://bucket/model",
        "http://127.0.0.1:9/model",
        "mlflow-artifacts://elsewhere:5000/1/model",
        "mlflow-artifacts:/1/../../etc",
        "mlflow-artifacts:/1/%2e%2e/etc",
        "mlflow-artifacts:/1/model?path=/etc",
    ],
)
def test_a_source_outside_of_the_registrys_store_is_refused(
    registry: MlflowModelRegistry, tmp_path: Path, source: str
) -> None:
    with pytest.raises(NotServable, match="outside of the registry's own store"):
        registry.fetch_model(RegisteredVersion("m", "1", "", source), tmp_path)


def test_files_of_an_experiment_with_a_location_of_its_own_are_neither_read_nor_written(
    registry: MlflowModelRegistry, mlflow_uri: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundles" / "sha256-of-production"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text("{}")
    client = MlflowClient(mlflow_uri)
    for name, location in (("disk", f"file://{bundle}"), ("bucket", "s3://bucket/place")):
        experiment = client.create_experiment(f"{name}-{uuid4().hex}", artifact_location=location)
        run = client.create_run(experiment).info.run_id
        logged = client.create_logged_model(experiment, source_run_id=run).model_id
        for source in (f"runs:/{run}/onnx", f"models:/{logged}"):
            version = RegisteredVersion("m", "1", run, source)
            with pytest.raises(NotServable, match=rf"lies at '{location[:20]}") as refusal:
                registry.fetch_model(version, tmp_path / "fetched")
            assert "without an artifact location" in refusal.value.next
            with pytest.raises(NotServable, match="outside of the registry's own store"):
                registry.attach_evidence(version, {"report.json": b"{}"})
        with pytest.raises(NotServable, match="outside of the registry's own store"):
            registry.fetch_artifact(run, "bundle.json", tmp_path / "fetched")
    assert [path.name for path in bundle.rglob("*")] == ["bundle.json"]
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_model_that_a_run_names_is_found_in_its_folder_or_among_what_it_logged(
    registry: MlflowModelRegistry, mlflow_uri: str, workspace: Workspace, tmp_path: Path, as_folder: bool
) -> None:
    trainer, model = MlflowTrainer(mlflow_uri), workspace.onnx_model.read_bytes()
    files = {"old/MLmodel": json.dumps(DESCRIBED).encode(), "old/model.onnx": model} if as_folder else {}
    version = trainer.register(
        "plants-of-a-run", onnx=model, input_types={"height": "double"}, artifacts=files, run_tags={}
    )
    source = f"runs:/{version.run_id}/{'old' if as_folder else 'onnx'}"
    registry.fetch_model(replace(version, source=source), tmp_path)
    assert read_mlmodel(tmp_path, "version 1") == ("model.onnx", {"height": "double"})


def test_an_untrained_tree_is_told_what_to_run(mlflow_uri: str, tmp_path: Path) -> None:
    trained.workspace(tmp_path)
    done = run_register(mlflow_uri, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "dvc repro" in done.stderr


def test_an_absent_server_ends_with_4_and_nothing_on_stdout(workspace: Workspace) -> None:
    done = run_register("http://127.0.0.1:9", workspace.root)
    assert (done.returncode, done.stdout) == (4, "")
    assert 'run "make up"' in done.stderr


def test_a_silent_server_ends_with_4(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []
        threading.Thread(target=lambda: taken.append(listener.accept()[0]), daemon=True).start()
        done = run_register(f"http://127.0.0.1:{listener.getsockname()[1]}", workspace.root)
        for connection in taken:
            connection.close()
    assert (done.returncode, done.stdout) == (4, "")
    assert "timed out" in done.stderr
