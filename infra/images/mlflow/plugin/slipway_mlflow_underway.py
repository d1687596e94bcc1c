"""Keeps the last look at a file and its writing apart from registrations: while one is under way, the other waits.

The guard runs in the one process of the registry, so what it keeps here is all that there is.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE


class Underway:
    """The files that are being written, and the runs and logged models that versions are being registered from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def writing(self, path: str, owners: set[str]) -> Iterator[None]:
        """Keep registrations from the file's owners, and others who write the same file, away."""
        away = {("file", path), *(("version of", owner) for owner in owners)}
        with self._kept({("file", path), *(("file of", owner) for owner in owners)}, away=away):
            yield

    @contextmanager
    def registering(self, owners: set[str]) -> Iterator[None]:
        """Keep away those who write files of the owners."""
        with self._kept({("version of", owner) for owner in owners}, away={("file of", owner) for owner in owners}):
            yield

    @contextmanager
    def _kept(self, kept: set[tuple[str, str]], *, away: set[tuple[str, str]]) -> Iterator[None]:
        with self._lock:
            met = sorted(each for each in away if self._held[each])
            if met:
                raise MlflowException(
                    f"another request is just now about the same {' '.join(met[0])}: send it again",
                    error_code=TEMPORARILY_UNAVAILABLE,
                )
            self._held.update(kept)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(kept)
                self._held += Counter()
