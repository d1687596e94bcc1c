"""dvc.yaml names all that a stage is made of: its own code, what that imports, and the lock of the libraries."""

import shutil
import warnings
from pathlib import Path

import pytest
import yaml

from tests.support.imports import ROOT, modules_of, path_of

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LOCK = "requirements/pipelines.txt"
# The optional libraries make models and read them.
BOOSTING = "requirements/boosting.txt"
# Not imported by any stage.
STRANGERS = ("pipelines/training/register.py", "pipelines/ports.py", "requirements/dev.txt")


def locks(stage: str) -> set[str]:
    """Return the locks of the libraries that a stage runs on."""
    return {LOCK} if stage == "prepare" else {LOCK, BOOSTING}


def imported(stage: str) -> set[str]:
    """Return the files of this repository that a stage's program imports."""
    return {str(path_of(module)) for module in modules_of(STAGES[stage]["cmd"].removeprefix("python -m "))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_imports_and_on_its_libraries(stage: str) -> None:
    named = {path for path in STAGES[stage]["deps"] if path.endswith((".py", ".txt"))}
    needed = imported(stage) | locks(stage)
    assert sorted(needed - named) == [], f"add these lines to the deps of {stage} in dvc.yaml, then: dvc repro"
    assert sorted(named - needed) == [], f"remove these lines from the deps of {stage} in dvc.yaml, then: dvc repro"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that the stages are made of, with a DVC of its own."""
    copy = tmp_path_factory.mktemp("tree")
    names = {path for stage in STAGES.values() for path in stage["deps"] if (ROOT / path).is_file()}
    for name in {"dvc.yaml", "dvc.lock", "model.yaml", *names, *STRANGERS}:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / ".dvc").mkdir()
    (copy / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return copy


def stages_to_run() -> set[str]:
    """Return the stages of which DVC says that their code or their libraries have changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dvc.repo import Repo

        with Repo() as repo:
            status = repo.status()
    changes = [(stage, item) for stage, found in status.items() for item in found if isinstance(item, dict)]
    return {
        stage for stage, item in changes if any(path.endswith((".py", ".txt")) for path in item.get("changed deps", {}))
    }


@pytest.mark.parametrize("path", sorted({*STRANGERS, LOCK, BOOSTING}.union(*map(imported, STAGES))))
def test_a_change_runs_exactly_the_stages_that_it_concerns(
    tree: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content + b"# changed\n")
    try:
        assert stages_to_run() == {stage for stage in STAGES if path in imported(stage) | locks(stage)}
    finally:
        Path(path).write_bytes(content)
