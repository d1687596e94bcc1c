"""Checkpoints in an append-only file of their own, so that a rewritten database contradicts it."""

import fcntl
import json
import os
from pathlib import Path

from pipelines.domain.audit import Checkpoint
from pipelines.errors import DatabaseUnavailable, Undecided


class FileCheckpoints:
    """Fills ports.Checkpoints with one JSON line a checkpoint in `path`.

    A checkpoint counts once its line has ended and is on disk. A last line without its end was cut off by a full
    disk or a lost machine before anybody was told of it: it is not read, and the next checkpoint takes its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, checkpoint: Checkpoint) -> None:
        """Append one checkpoint, and return when it is on disk."""
        line = json.dumps({"seq": checkpoint.seq, "hash": checkpoint.hash}) + "\n"
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # Beside other writers a line could be taken for one that was cut off.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _cut_torn_line(descriptor)
                _write_whole(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DatabaseUnavailable(
                f"the checkpoint {checkpoint.seq} could not be kept outside of the database: {error}",
                next="make room on the disk that holds SLIPWAY_HOME",
            ) from error

    def checkpoints(self) -> list[Checkpoint]:
        """Return every exported checkpoint, by number; none before the first export.

        Raises Undecided for an unreadable line.
        """
        if not self._path.exists():
            return []
        written = self._path.read_bytes()
        lines = written[: written.rfind(b"\n") + 1].decode(errors="replace").splitlines()
        found = {self._checkpoint(number, line) for number, line in enumerate(lines, start=1)}
        return sorted(found, key=lambda checkpoint: (checkpoint.seq, checkpoint.hash))

    def _checkpoint(self, number: int, line: str) -> Checkpoint:
        try:
            row = json.loads(line)
            return Checkpoint(int(row["seq"]), str(row["hash"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise Undecided(
                f"line {number} of {self._path} is not a checkpoint: {line[:40]!r}",
                next="compare it with a copy of the file",
            ) from error


def _cut_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        written = os.pread(descriptor, size, 0)
        os.ftruncate(descriptor, written.rfind(b"\n") + 1)


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all of `content`: a disk that fills up takes a part of it first, and says so at the next write."""
    while content:
        content = content[os.write(descriptor, content) :]
