"""What a container job is given: the files in one archive that is read while it is sent."""

import io
import tarfile
from pathlib import Path

import pytest

from pipelines.adapters.jobs.container import _archive
from pipelines.errors import Undecided, UsageError


def test_files_are_sent_as_they_are_read_for_everybody_to_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 20_000)

    parts = list(_archive(b"task", {"model/model.onnx": large, "top": large}))

    assert max(map(len, parts)) <= 1 << 20
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        found = {entry.name: (entry.mode, entry.uid) for entry in archive}
        content = archive.extractfile("model/model.onnx")
        assert content and content.read() == large.read_bytes()
    assert found == {"model": (0o755, 0), "task.json": (0o444, 0), "model/model.onnx": (0o444, 0), "top": (0o444, 0)}


def test_a_name_that_leads_out_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no place for a file"):
        next(iter(_archive(b"", {"../out": tmp_path})))


def test_a_file_that_is_not_there_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="can't be read for the confined job"):
        list(_archive(b"", {"x": tmp_path / "none"}))
