"""What a project's slipway.lock says: all that its stages run on, whichever of it changes."""

import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.training.lock import LIBRARIES, code_digest, code_files, lock
from pipelines.training.workspace import Workspace
from tests.support.imports import ROOT, distributions_of, libraries_of, modules_of, path_of

STAGES = tuple(f"pipelines.training.{name}" for name in ("prepare", "train", "score"))
PACKAGE = ROOT / "pipelines"


def test_every_file_that_a_stage_imports_counts() -> None:
    imported = {path_of(module).relative_to("pipelines") for module in modules_of(*STAGES)}
    assert imported - set(code_files(PACKAGE)) == set()


def test_every_library_that_a_stage_imports_counts() -> None:
    unnamed = [library for library in libraries_of(*STAGES) if not distributions_of(library) & set(LIBRARIES)]
    assert unnamed == []


@pytest.mark.parametrize("path", ["errors.py", "domain/bundle.py", "training/reading/csv_file.py", "packaging/new.py"])
def test_a_change_of_the_code_changes_the_digest(tmp_path: Path, path: str) -> None:
    copy = tmp_path / "pipelines"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(copy) == code_digest(PACKAGE)
    file = copy / path
    # Of the same length, where there is one.
    file.write_text(file.read_text().replace("e", "E", 1) if file.exists() else "# new\n")
    assert code_digest(copy) != code_digest(PACKAGE)


def test_what_no_stage_imports_does_not_count(tmp_path: Path) -> None:
    copy = tmp_path / "pipelines"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "operator/up.py").write_text("changed")
    (copy / "training/notes.txt").write_text("new")
    assert code_digest(copy) == code_digest(PACKAGE)


def test_the_file_names_the_code_and_each_installed_library(tmp_path: Path) -> None:
    lock(Workspace(tmp_path))
    written = yaml.safe_load((tmp_path / "slipway.lock").read_text())
    assert written["slipway"] == f"sha256:{code_digest(PACKAGE)}"
    assert {"numpy", "scikit-learn", "scipy", "skl2onnx", "onnx", "onnxruntime", "pandas"} <= set(written)
    assert set(written) - {"slipway"} <= set(LIBRARIES)
    before = (tmp_path / "slipway.lock").read_bytes()
    lock(Workspace(tmp_path))
    assert (tmp_path / "slipway.lock").read_bytes() == before
