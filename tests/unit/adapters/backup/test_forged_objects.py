"""The objects of a backup somebody forged: no other file of the machine gets into a bucket."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.backup.swarm_place import SwarmPlace
from pipelines.adapters.containers.swarm_installation import SwarmInstallation
from pipelines.adapters.storage.object_copies import ObjectCopies
from pipelines.adapters.storage.object_store import S3Access
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import BackupDamaged

GOOD = {"key": "artifacts/1/MLmodel", "file": "00000001"}
FORGED: dict[str, list[Any]] = {
    "a file of the machine": [GOOD, {"key": "k", "file": "/etc/hostname"}],
    "a file of the backup": [GOOD, {"key": "k", "file": "../../home/secrets.json"}],
    "a file twice": [GOOD, GOOD],
    "the index": [GOOD, {"key": "k", "file": "index.jsonl"}],
    "a folder": [GOOD, {"key": "k", "file": "00000002"}],
    "fewer": [],
    "no file": [{"key": "k"}],
    "no line": ["k"],
}


@pytest.fixture(params=FORGED)
def staged(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "objects" / "artifacts"
    (folder / "00000002").mkdir(parents=True)
    (folder / "00000001").write_text("content")
    (folder / "index.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in FORGED[request.param]))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secrets.json").write_text("a secret")
    return tmp_path


def test_nothing_is_put_into_a_bucket(staged: Path) -> None:
    nowhere = S3Access("http://127.0.0.1:9", "root", "a-password")
    with pytest.raises(BackupDamaged, match="the index of the backup's 'artifacts'"):
        ObjectCopies(nowhere).put(staged / "objects" / "artifacts", "artifacts")


def test_nothing_is_made_in_the_engine(staged: Path) -> None:
    def opened(home: Path) -> SwarmInstallation:
        raise AssertionError(home)

    place = SwarmPlace(DockerEngine("tcp://127.0.0.1:9"), "p", staged / "new", opened)
    with pytest.raises(BackupDamaged, match="the index of the backup's 'artifacts'"):
        place.install(staged, lambda line: None)
