"""Whole buckets as files and back: every object, of whatever name, and every version of a locked one."""

import json
from pathlib import Path

import pytest

from pipelines.adapters.backup.numbered_files import INDEX
from pipelines.adapters.storage.checkpoints_s3 import S3Checkpoints
from pipelines.adapters.storage.object_copies import ObjectCopies
from pipelines.adapters.storage.object_store import connect
from pipelines.domain.audit import Checkpoint
from pipelines.errors import Undecided
from tests.support.servers.object_store import MinioServer, Store

# Names that no file could have, each part as long as MinIO's own files may be, or that would lie in another's place.
KEYS = ["artifacts/1/MLmodel", "x/" + "/".join(3 * ["y" * 200]), "a b/ü.txt", "plain"]


def test_objects_come_back_whatever_their_names(minio: MinioServer, tmp_path: Path) -> None:
    source, target, root = Store(minio), Store(minio), ObjectCopies(minio.root)
    client = connect(minio.root)
    for key in KEYS:
        client.put_object(Bucket=source.buckets.artifacts, Key=key, Body=key.encode())

    names = root.take(source.buckets.artifacts, tmp_path / "copy")

    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(names)
    assert root.put(tmp_path / "copy", target.buckets.artifacts) == len(KEYS)
    for key in KEYS:
        assert client.get_object(Bucket=target.buckets.artifacts, Key=key)["Body"].read() == key.encode()


def test_every_version_of_a_checkpoint_comes_back_also_a_forged_one(minio: MinioServer, tmp_path: Path) -> None:
    source, target, root = Store(minio), Store(minio), ObjectCopies(minio.root)
    kept = S3Checkpoints(source.access["audit"], source.buckets.heads)
    kept.export(Checkpoint(1, "a" * 64))
    forged = json.dumps({"seq": 1, "hash": "b" * 64}).encode()
    connect(minio.root).put_object(Bucket=source.buckets.heads, Key=f"{1:012d}.json", Body=forged)

    root.take(source.buckets.heads, tmp_path / "copy")
    root.put(tmp_path / "copy", target.buckets.heads)

    restored = S3Checkpoints(target.access["audit"], target.buckets.heads)
    assert restored.checkpoints() == kept.checkpoints()
    assert len(restored.checkpoints()) == 2
    assert (tmp_path / "copy" / INDEX).exists()


def test_a_store_that_is_away_is_no_empty_bucket(store: Store, minio: MinioServer, tmp_path: Path) -> None:
    with minio.away(), pytest.raises(Undecided, match="does not answer"):
        ObjectCopies(minio.root).take(store.buckets.dvc, tmp_path / "copy")
