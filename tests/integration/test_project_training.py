"""A candidate out of a model's own repository: trained by the installed stages, registered under its own commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from mlflow import MlflowClient

from pipelines.errors import UsageError
from pipelines.operator.candidate import train_and_register
from pipelines.operator.model_init import init_project
from pipelines.settings.settings import Settings
from tests.support.world import trained

pytestmark = pytest.mark.timeout(600)

MAKER = """from own_parts import DEPTH
from sklearn.tree import DecisionTreeClassifier


def make_estimator(features):
    return DecisionTreeClassifier(max_depth=DEPTH)
"""


def run(*words: str, cwd: Path) -> str:
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(words, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout.strip()


def dvc(*words: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *words, cwd=cwd)


def commit(folder: Path) -> str:
    run("git", "add", ".", cwd=folder)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "made", cwd=folder)
    return run("git", "rev-parse", "HEAD", cwd=folder)


@pytest.fixture(scope="module")
def settings(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An installation of another model, whose project is another folder."""
    made = tmp_path_factory.mktemp("installation")
    (made / "model.yaml").write_text("name: default-model\n")
    environ = {"SLIPWAY_PROJECT": str(made), "SLIPWAY_PORT_MLFLOW": str(urlsplit(mlflow_uri).port)}
    return Settings.from_environ({**environ, "SLIPWAY_HOME": str(made / "home")})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """A repository of its own with a DVC remote, and an estimator made by a module of its own."""
    folder = tmp_path_factory.mktemp("own") / "own-plants"
    data = folder.parent / "plants.csv"
    trained.plants().to_csv(data, index=False)
    init_project(folder, data, settings.project, target="outcome", name="", ids=(), force=False)
    run("git", "init", "-q", "-b", "shops", cwd=folder)
    dvc("init", "-q", cwd=folder)
    dvc("remote", "add", "-q", "--default", "store", str(folder.parent / "remote"), cwd=folder)
    dvc("add", "-q", "data/raw/plants.csv", cwd=folder)
    dvc("push", "-q", cwd=folder)
    (folder / "own_maker.py").write_text(MAKER)
    (folder / "own_parts.py").write_text("DEPTH = 3\n")
    described = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**described, "estimator": {"module": "own_maker"}}))
    return folder


def train(settings: Settings, project: Path, told: list[str] | None = None) -> dict[str, str]:
    return train_and_register(settings, os.environ, (told if told is not None else []).append, project=project)


def test_a_candidate_is_trained_where_it_lies_and_carries_its_own_commit(
    settings: Settings, project: Path, mlflow_uri: str
) -> None:
    with pytest.raises(UsageError, match="git names no commit of"):
        train(settings, project)
    commit(project)
    with pytest.raises(UsageError, match=r"dvc\.yaml does not name own_maker.py as a dependency of stage train"):
        train(settings, project)
    stages = yaml.safe_load((project / "dvc.yaml").read_text())
    stages["stages"]["train"]["deps"] += ["own_maker.py", "own_parts.py"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(stages))
    commit(project)
    client = MlflowClient(mlflow_uri)

    first = train(settings, project)
    tags = client.get_run(first["run_id"]).data.tags
    assert client.get_model_version("own-plants", first["model_version"]).status == "READY"
    assert tags["slipway.git_dirty"] == "true", "dvc.lock and slipway.lock are not committed"

    head = commit(project)
    shutil.rmtree(project / "data/raw")
    shutil.rmtree(project / ".dvc/cache")
    run("git", "checkout", "-q", "data", cwd=project)
    told: list[str] = []
    second = train(settings, project, told)
    tags = client.get_run(second["run_id"]).data.tags
    assert "data/raw/plants.csv is not here: dvc pull data/raw/plants.csv.dvc" in told
    assert (tags["mlflow.source.git.commit"], tags["slipway.git_dirty"]) == (head, "false")
    assert (tags["mlflow.source.git.branch"], tags["mlflow.source.git.repoURL"]) == ("shops", "")
    assert run("git", "status", "--porcelain", cwd=project) == ""


def test_what_a_stage_of_a_project_refuses_is_said_once_in_its_own_words(settings: Settings, project: Path) -> None:
    data = project / "data/raw/plants.csv"
    before = data.read_text()
    frame = trained.plants()
    frame.loc[2, "age"] = "old"
    frame.to_csv(data, index=False)
    told: list[str] = []
    with pytest.raises(UsageError, match=r"column age: 'old' in line 4 is not a number") as error:
        train(settings, project, told)
    data.write_text(before)
    assert (error.value.exit_code, error.value.next[:17]) == (2, "correct the data,")
    assert not any("is not a number" in line for line in told)


def test_a_folder_without_stages_is_refused(settings: Settings, tmp_path: Path) -> None:
    trained.workspace(tmp_path)
    with pytest.raises(UsageError, match=r"has no dvc\.yaml") as error:
        train(settings, tmp_path)
    assert "slipway model init FILE" in error.value.next
