"""Lets one process at a time change an installation from its home, and says who holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import Refused


def is_held(path: Path) -> bool | None:
    """Whether a process of this machine holds the lock; None where nobody ever did."""
    if not path.exists():
        return None
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock for a block; raise Refused with its holder when somebody else does. It ends with its process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refused(
                f"this installation is being changed: {lock.read().strip() or 'just begun'}",
                next="wait for it to end, then do it again",
            ) from None
        lock.truncate(0)
        lock.write(f"{what} by process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        lock.flush()
        yield
