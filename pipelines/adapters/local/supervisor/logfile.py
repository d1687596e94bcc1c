"""Logs of processes: capped files that those append to, of replicas one a release and slot."""

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

CAP_BYTES = 5_000_000
KEPT_FILES = 40
TAIL_LINES = 20
_TAIL_BYTES = 64_000


def cap_files(directory: Path) -> None:
    """Move each log in a directory aside that has grown too large; processes that no supervisor starts write there."""
    for path in directory.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            _cap(path)


class ReplicaLog:
    """The log of one release in one slot: at most about twice CAP_BYTES, with its predecessor `.1`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / (re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120] + ".log")

    def open(self) -> BinaryIO:
        """Open for appending: several replicas may write, and `cap` may cut under them.

        Where there is no room for a log there is none: what serves matters more.
        """
        try:
            self._forget_oldest()
            return open(self.path, "ab", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o600))
        except OSError as error:
            log.error("%s can't be written, so a replica starts without a log: %s", self.path, error)
            return open(os.devnull, "ab", buffering=0)

    def size_bytes(self) -> int:
        """Return the size now; 0 when there is no file."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def tail(self, since_bytes: int = 0) -> tuple[str, ...]:
        """Return the last lines written after the size was `since_bytes`."""
        size = self.size_bytes()
        start = max(since_bytes if since_bytes <= size else 0, size - _TAIL_BYTES)
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            file.seek(start)
            text = file.read(_TAIL_BYTES).decode(errors="replace")
            return tuple(line for line in text.splitlines() if line.strip())[-TAIL_LINES:]
        return ()

    def cap(self) -> None:
        """Move a file that has grown too large aside."""
        _cap(self.path)

    def _forget_oldest(self) -> None:
        prefix = self.path.name.split("-", 1)[0]
        logs = [path for path in self.path.parent.glob(f"{prefix}-*.log*") if path != self.path]
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[KEPT_FILES:]:
            path.unlink(missing_ok=True)


def _cap(path: Path) -> None:
    """Move a file that has grown too large aside; its writers append, so they go on at the new start.

    Where there is no room for the former lines, they go.
    """
    if not path.exists() or path.stat().st_size <= CAP_BYTES:
        return
    former = path.with_suffix(".log.1")
    with contextlib.suppress(OSError):
        former.unlink(missing_ok=True)
        shutil.copyfile(path, former)
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
