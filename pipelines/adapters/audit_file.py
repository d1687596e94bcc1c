"""Audit heads in an append-only file of their own, so that a rewritten database contradicts it."""

import json
import os
from pathlib import Path

from pipelines.domain.audit import Head
from pipelines.errors import Undecided


class FileAuditHeads:
    """Fills ports.AuditHeads with one JSON line a head in `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, head: Head) -> None:
        """Append one head; a line is short enough to be written whole beside other writers."""
        line = json.dumps({"seq": head.seq, "hash": head.hash}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def heads(self) -> list[Head]:
        """Return every exported head; none before the first export. Raises Undecided for an unreadable line."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(errors="replace").splitlines()
        return [self._head(number, line) for number, line in enumerate(lines, start=1)]

    def _head(self, number: int, line: str) -> Head:
        try:
            row = json.loads(line)
            return Head(row["seq"], row["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise Undecided(
                f"line {number} of {self._path} is not an audit head: {line[:40]!r}",
                next="compare it with a copy of the file; after a full disk the line may be cut off",
            ) from error
