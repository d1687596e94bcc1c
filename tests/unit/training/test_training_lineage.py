"""What dvc.lock names is what is trained on and registered, whatever lies in DVC's cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.training.lineage import drop_spoiled, refuse_spoiled
from pipelines.training.register import main

OUTPUT = "data/snapshots/train.parquet"
CONTENT = b"rows"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A working tree with one output, which also lies in the cache."""
    for path in (tmp_path / OUTPUT, cached(tmp_path)):
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
    lock = {"schema": "2.0", "stages": {"prepare": {"outs": [{"path": OUTPUT, "md5": MD5}]}, "train": {}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    return tmp_path


def cached(tree: Path) -> Path:
    return tree / ".dvc/cache/files/md5" / MD5[:2] / MD5[2:]


def test_whole_files_are_left_alone(tree: Path) -> None:
    assert drop_spoiled(tree) == []
    refuse_spoiled(tree)
    assert (tree / OUTPUT).read_bytes() == cached(tree).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"rowz", b"ro", b""])
def test_a_spoiled_file_is_dropped_wherever_it_lies_and_its_sound_copy_stays(tree: Path, content: bytes) -> None:
    cached(tree).write_bytes(content)
    assert drop_spoiled(tree) == [str(cached(tree).relative_to(tree))]
    (tree / OUTPUT).write_bytes(content)
    assert drop_spoiled(tree) == [OUTPUT]
    assert not (tree / OUTPUT).exists() and not cached(tree).exists()


def test_a_spoiled_file_is_not_registered(tree: Path) -> None:
    (tree / OUTPUT).write_bytes(b"rowz")
    with pytest.raises(UsageError, match=f"{OUTPUT} is not what dvc.lock names: expected md5 {MD5}, got "):
        refuse_spoiled(tree)


def test_registering_refuses_before_anybody_is_asked(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / OUTPUT).write_bytes(b"rowz")

    def never(*_: object) -> dict[str, str]:
        raise AssertionError("it was registered")

    given = ["--tracking-uri", "http://127.0.0.1:1", "--root", str(tree)]
    assert main(never, {"converted": (("FOLDER",), never)}, given) == UsageError.exit_code
    assert "is not what dvc.lock names" in capsys.readouterr().err


def test_a_tree_without_a_lock_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    assert drop_spoiled(tmp_path) == []
    refuse_spoiled(tmp_path)


def test_dvc_itself_does_not_look(tree: Path) -> None:
    """Why this exists: the day DVC re-hashes its cache, it can go."""
    (tree / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": {"cmd": "false", "outs": [OUTPUT]}}}))
    dvc = [sys.executable, "-m", "dvc"]
    lock = {"cmd": "false", "outs": [{"path": OUTPUT, "hash": "md5", "md5": MD5, "size": len(CONTENT)}]}
    (tree / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"prepare": lock}}))
    subprocess.run([*dvc, "init", "--no-scm", "-q", "-f"], cwd=tree, check=True, capture_output=True)
    cached(tree).parent.mkdir(parents=True, exist_ok=True)
    cached(tree).write_bytes(b"rowz")
    cached(tree).chmod(0o444)
    (tree / OUTPUT).unlink()
    subprocess.run([*dvc, "checkout", "-q"], cwd=tree, check=True, capture_output=True)
    assert (tree / OUTPUT).read_bytes() == b"rowz"
