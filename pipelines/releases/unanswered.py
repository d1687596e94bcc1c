"""Alias writes of this process that the registry did not answer: each may still arrive, also after it was undone."""

import time
from collections.abc import Iterable

from pipelines.domain.release import Endpoint


class Unanswered:
    """The versions that an alias may still be moved to, and since when nobody waits for that any more."""

    def __init__(self) -> None:
        self._given_up: dict[tuple[Endpoint, str | None], float] = {}

    def add(self, endpoint: Endpoint, version: str | None) -> None:
        """Remember a write whose answer did not come."""
        self._given_up[endpoint, version] = time.monotonic()

    def of(self, endpoint: Endpoint) -> dict[str | None, float]:
        """Return what may still be written for an endpoint, and since when, by the monotonic clock."""
        return {version: at for (where, version), at in list(self._given_up.items()) if where == endpoint}

    def forget(self, endpoint: Endpoint, versions: Iterable[str | None]) -> None:
        """Take writes for lost."""
        for version in versions:
            self._given_up.pop((endpoint, version), None)
