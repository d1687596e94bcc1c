"""The committed dvc.lock belongs to the committed sources: training in a fresh clone leaves git as it was."""

import hashlib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
STAGES = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
SOURCES = sorted(
    {(dep["path"], dep["md5"]) for stage in STAGES.values() for dep in stage["deps"] if (ROOT / dep["path"]).is_file()}
)


@pytest.mark.parametrize(("path", "md5"), [source for source in SOURCES if source[0].endswith((".py", ".csv", ".txt"))])
def test_a_source_is_the_one_that_was_locked(path: str, md5: str) -> None:
    assert hashlib.md5((ROOT / path).read_bytes()).hexdigest() == md5, 'run "dvc repro" and commit dvc.lock'


def test_the_sources_are_named() -> None:
    assert {"pipelines/training/train.py", "requirements/pipelines.txt"} <= {path for path, _ in SOURCES}
