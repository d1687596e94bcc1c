"""From a trained working tree over a real MLflow to a bundle, and what must not get that far."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, Refused
from pipelines.packaging.package import Packaged, make_bundle
from pipelines.training.workspace import Workspace
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world import trained

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]


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


def package(registry: MlflowModelRegistry, root: Path, version: RegisteredVersion, pinned: str | None) -> Packaged:
    return make_bundle(
        registry,
        BundleStore(root / "bundles"),
        version,
        pinned=pinned,
        fallback_evaluation=lambda: None,
        workdir=root / "work",
    )


def test_registration_prints_one_line_and_logs_what_packaging_needs(
    registry: MlflowModelRegistry, registered: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    assert set(registered) == {"run_id", "accuracy", "model_version"}
    assert registered["accuracy"] == round(metrics["accuracy"], 4)
    version = registry.newest("registered-plants")
    assert (version.run_id, version.version) == (registered["run_id"], registered["model_version"])
    for name in ("evaluation.parquet", "predictions.parquet", "model.yaml"):
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
    assert packaged.evaluation.frame.shape[0] == 100
    assert package(registry, tmp_path / "other", version, None).digest == packaged.digest
    assert package(registry, tmp_path, version, packaged.digest).digest == packaged.digest


def test_an_artifact_overwritten_after_the_pin_is_refused(
    registry: MlflowModelRegistry, mlflow_uri: str, workspace: Workspace, tmp_path: Path
) -> None:
    assert run_register(mlflow_uri, workspace.root).returncode == 0
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
    described = registry.fetch_model(version, tmp_path / "first").onnx_path.parent / "MLmodel"
    body = yaml.safe_load(described.read_text(encoding="utf-8"))
    body["flavors"]["onnx"]["data"] = name
    trainer.overwrite(version, "MLmodel", yaml.safe_dump(body).encode())
    with pytest.raises(NotServable, match="as its model file"):
        registry.fetch_model(version, tmp_path / "second")


@pytest.mark.parametrize("source", ["file:///etc", "/etc", "models:/m-1/../..", "s3://bucket/model"])
def test_a_source_outside_of_mlflow_is_refused(registry: MlflowModelRegistry, tmp_path: Path, source: str) -> None:
    with pytest.raises(NotServable, match="outside of MLflow"):
        registry.fetch_model(RegisteredVersion("m", "1", "", source), tmp_path)


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
