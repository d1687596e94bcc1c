"""A set that is no version's, on its way from the trainer's side through a real MLflow to who keeps it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.errors import UsageError
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.package import EVALUATION_ARTIFACT
from pipelines.training.own_set import write_own_set
from tests.support.world.trained import plants, workspace

pytestmark = pytest.mark.timeout(300)


def test_a_set_is_logged_in_a_run_of_its_own_and_fetched_by_its_digest(mlflow_uri: str, tmp_path: Path) -> None:
    project = workspace(tmp_path / "project").root
    plants(60, seed=5).to_csv(tmp_path / "hard.csv", index=False)
    digest = write_own_set(project, tmp_path / "hard.csv", tmp_path / "evaluation.parquet")
    command = [sys.executable, "-m", "pipelines.wiring.register", "--tracking-uri", mlflow_uri]

    runs = []
    for _ in range(2):
        done = subprocess.run(
            [*command, "--evaluation", "plant-model", str(tmp_path / "evaluation.parquet")],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(json.loads(done.stdout)["run_id"])

    registry = MlflowModelRegistry(mlflow_uri)
    assert len(set(runs)) == 2
    client = MlflowClient(mlflow_uri)
    for run_id in runs:
        assert client.get_experiment(client.get_run(run_id).info.experiment_id).name == "plant-model"
        assert registry.run_tags(run_id)["slipway.dataset.evaluation"] == digest
        fetched = registry.fetch_artifact(run_id, EVALUATION_ARTIFACT, tmp_path / run_id)
        assert fetched is not None and digest_of_file(fetched) == digest


def test_a_set_and_a_conversion_are_not_logged_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.wiring.register", "--tracking-uri", "http://127.0.0.1:9"]
    done = subprocess.run(
        [*command, "--evaluation", "plant-model", "a", "--converted", "b"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == UsageError.exit_code
