"""A model's project of its own: what is written of it, what DVC makes of that, and what is refused before."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.operator.model_init import init_project, steps_of
from pipelines.operator.project_folder import pipeline
from pipelines.training.prepare import prepare
from pipelines.training.repositories import commit_of, dvc_root, is_dirty, missing_steps, refuse_unversioned
from pipelines.training.workspace import Workspace
from tests.support.world import trained

ROOT = Path(__file__).resolve().parents[3]
# Makes of a stage's name what the stage would make, and notes that it ran.
SLIPWAY = """#!/bin/sh
echo "$2" >> ran
mkdir -p data/snapshots models
case "$2" in
  lock) echo "numpy: $NUMPY" > slipway.lock;;
  prepare) for part in train evaluation reference; do cat slipway.lock > data/snapshots/$part.parquet; done;;
  train) cat data/snapshots/train.parquet > models/model.skops; echo onnx > models/model.onnx;;
  score) echo answers > models/predictions.parquet; echo '{}' > metrics.json;;
esac
"""
ALL = ["lock", "prepare", "train", "score"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "plants.csv"
    trained.plants().to_csv(file, index=False)
    return file


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """The project of an installation's default model."""
    made = tmp_path / "installation"
    made.mkdir()
    (made / "model.yaml").write_text("name: default-model\n")
    return made


def init(folder: Path, data: Path, installation: Path, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"target": "outcome", "name": "", "ids": (), "force": False, **changes}
    return init_project(folder, data, installation, **asked)[0]


def run(*words: str, cwd: Path, **environ: str) -> str:
    env = {**os.environ, "DVC_NO_ANALYTICS": "1", **environ}
    return subprocess.run(words, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout


def dvc(*words: str, cwd: Path, **environ: str) -> str:
    return run(sys.executable, "-m", "dvc", *words, cwd=cwd, **environ)


def commit(folder: Path) -> None:
    run("git", "add", ".", cwd=folder)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "made", cwd=folder)


def test_a_new_folder_has_the_data_and_prepares_as_it_stands(tmp_path: Path, data: Path, installation: Path) -> None:
    folder = tmp_path / "plant-model"
    body = init(folder, data, installation)
    assert body == yaml.safe_load((folder / "model.yaml").read_text())
    assert (body["name"], body["source"]["path"]) == ("plant-model", "data/raw/plants.csv")
    assert (folder / "data/raw/plants.csv").read_bytes() == data.read_bytes()
    prepare(Workspace(folder))


def test_a_file_that_is_in_the_folder_already_stays_where_it_is(tmp_path: Path, data: Path, installation: Path) -> None:
    folder = tmp_path / "plant-model"
    (folder / "kept").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("Plants.\n")
    (folder / ".gitignore").write_text("*.log\n/metrics.json\n")
    inside = data.rename(folder / "kept/plants.csv")
    assert init(folder, inside, installation)["source"]["path"] == "kept/plants.csv"
    assert not (folder / "data").exists()
    lines = (folder / ".gitignore").read_text().splitlines()
    assert lines[:2] == ["*.log", "/metrics.json"]
    assert lines.count("/metrics.json") == 1 and "/models/model.onnx" in lines


def test_a_project_has_the_stages_of_slipways_own_example() -> None:
    own = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = yaml.safe_load(pipeline())["stages"]
    assert list(made) == ["lock", *own]
    for name, stage in own.items():
        data = [path for path in stage["deps"] if not path.endswith((".py", ".txt"))]
        assert made[name] == {
            **stage, "cmd": f"slipway stage {name}", "deps": [*data, "slipway.lock"]
        }  # fmt: skip


def test_other_libraries_run_all_stages_anew_and_the_same_ones_none(
    tmp_path: Path, data: Path, installation: Path
) -> None:
    folder = tmp_path / "plant-model"
    init(folder, data, installation)
    run("git", "init", "-q", cwd=folder)
    dvc("init", "-q", cwd=folder)
    program = tmp_path / "bin/slipway"
    program.parent.mkdir()
    program.write_text(SLIPWAY)
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"

    def ran(numpy: str) -> list[str]:
        (folder / "ran").unlink(missing_ok=True)
        dvc("repro", "-q", cwd=folder, PATH=path, NUMPY=numpy)
        return (folder / "ran").read_text().split()

    assert ran("2.4.0") == ALL
    assert ran("2.4.0") == ["lock"]
    assert ran("2.4.1") == ALL
    commit(folder)
    tracked = run("git", "ls-files", cwd=folder).split()
    assert {"dvc.lock", "slipway.lock", "model.yaml", "dvc.yaml", ".gitignore"} <= set(tracked)
    assert not [each for each in tracked if each.startswith(("models/", "data/snapshots", "metrics"))]
    assert run("git", "status", "--porcelain", cwd=folder) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "colour"}, "plants.csv has no column 'colour'"),
        ({"ids": ("colour",)}, "plants.csv has no column 'colour'"),
        ({"ids": ("outcome",)}, "outcome can't be both the target and an id"),
        ({"name": "a/b"}, "model name 'a/b' is not a name"),
    ],
)
def test_a_refusal_leaves_no_folder(
    tmp_path: Path, data: Path, installation: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        init(tmp_path / "new", data, installation, **changes)
    assert error.value.next
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_refused_unless_forced(tmp_path: Path, data: Path, installation: Path) -> None:
    folder = tmp_path / "new"
    init(folder, data, installation)
    (folder / "model.yaml").write_text("name: mine\n")
    with pytest.raises(UsageError, match=r"is there already, and holds data, dvc.yaml, model.yaml"):
        init(folder, data, installation)
    assert (folder / "model.yaml").read_text() == "name: mine\n"
    assert init(folder, data, installation, force=True)["name"] == "new"
    with pytest.raises(UsageError, match="can't be written: "):
        init(Path("/proc/new"), data, installation)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        init(tmp_path / "file", data, installation)
    with pytest.raises(UsageError, match="is the installation's own project"):
        init(installation, data, installation, force=True)


def test_a_model_of_the_installation_is_called_as_its_folder_and_not_as_the_default_one(
    data: Path, installation: Path
) -> None:
    models = installation / "models"
    with pytest.raises(UsageError, match="is called as its folder: plants, not trees"):
        init(models / "plants", data, installation, name="trees")
    with pytest.raises(UsageError, match="default-model is the installation's default model"):
        init(models / "default-model", data, installation)
    with pytest.raises(UsageError, match="is called as its folder: my plants, not my-plants"):
        init(models / "my plants", data, installation)
    assert init(models / "plants", data, installation, name="plants")["name"] == "plants"


def test_what_is_left_to_do_is_said(tmp_path: Path, data: Path, installation: Path) -> None:
    folder = installation / "models/plants"
    body = init(folder, data, installation)
    assert "git init, dvc init, dvc add data/raw/plants.csv, git add ., git commit" in steps_of(
        folder, installation, body
    )
    blank = data.rename(data.with_name("my plants.csv"))
    body = init(installation / "models/others", blank, installation)
    assert "dvc add 'data/raw/my plants.csv'" in steps_of(folder, installation, body)
    (installation / ".git").mkdir()
    (installation / ".dvc").mkdir()
    said = steps_of(folder, installation, body)
    assert "init" not in said
    assert said.endswith('; "slipway model add others", then "slipway candidate --model others"')
    assert f"slipway model add {tmp_path / 'x'}" in steps_of(tmp_path / "x", installation, body)


def test_a_project_outside_of_git_or_dvc_is_refused_with_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "around/plants"
    folder.mkdir(parents=True)
    assert missing_steps(folder) == ["git init", "dvc init"]
    with pytest.raises(UsageError, match="is in no git repository and in no DVC project") as error:
        refuse_unversioned(folder)
    assert error.value.next.startswith('run "git init && dvc init" there')
    run("git", "init", "-q", cwd=folder.parent)
    assert missing_steps(folder) == ["dvc init --subdir"]
    dvc("init", "-q", cwd=folder.parent)
    with pytest.raises(UsageError, match="git names no commit of"):
        refuse_unversioned(folder)
    (folder / "model.yaml").touch()
    commit(folder.parent)
    refuse_unversioned(folder)
    # A repository inside of another one has nothing of its DVC.
    run("git", "init", "-q", cwd=folder)
    assert dvc_root(folder) is None
    assert missing_steps(folder) == ["dvc init"]


def test_only_what_is_of_a_project_makes_it_differ_from_its_commit(tmp_path: Path) -> None:
    own, other = tmp_path / "models/own", tmp_path / "models/other"
    for folder in (tmp_path, own, other):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.yaml").write_text("name: first\n")
    assert commit_of(own) is None
    run("git", "init", "-q", cwd=tmp_path)
    assert commit_of(own) is None
    commit(tmp_path)
    assert commit_of(own) == run("git", "rev-parse", "HEAD", cwd=tmp_path).strip()
    (other / "model.yaml").write_text("name: second\n")
    (other / "new.py").touch()
    assert [is_dirty(each) for each in (tmp_path, own, other)] == [False, False, True]
    (tmp_path / "models/shared.py").touch()
    assert [is_dirty(each) for each in (tmp_path, own)] == [True, False]
    (own / "model.yaml").unlink()
    assert is_dirty(own)


def test_a_dvc_project_that_was_made_without_git_needs_none(tmp_path: Path) -> None:
    dvc("init", "-q", "--no-scm", cwd=tmp_path)
    refuse_unversioned(tmp_path)
