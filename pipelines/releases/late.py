"""Alias writes that may arrive late, after what they were for was undone, and how they are put right.

The registry knows no epochs: a call that was on its way when its caller was replaced, or gave it up unanswered, may
still arrive. That is over when the longest such call has met its deadline, counted from when its caller gave it up,
or was last seen; from then on an alias that says something else was moved by somebody, is shown, and left alone.
"""

import time
from datetime import datetime

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import Lease, Maintenance, ReleaseRecord
from pipelines.domain.release import Endpoint
from pipelines.governance.progress import progress_of
from pipelines.releases import leases
from pipelines.releases.leader import Succession, may_wake
from pipelines.releases.services import Services
from pipelines.releases.undo import restore_alias

# The step under which work tells that its executor was replaced.
RECOVERED = "recovered"


class LateWrites:
    """What this executor, and the one before it under the leases that were taken over, may still write."""

    def __init__(self, services: Services, succession: Succession) -> None:
        self._services = services
        self._former = succession.former
        self._taken = [lease for lease in succession.leases if lease.holder]
        self._begun_at = services.now()
        self._last_seen = time.monotonic()
        # By endpoint, as of the first look: what is released later, the former one can't have written.
        self._written: dict[Endpoint, set[str | None]] = {}

    def arrived(self, endpoint: Endpoint) -> bool:
        """Whether an alias says what only such a write may have written; raise RegistryUnavailable."""
        own = self._services.unanswered.of(endpoint)
        lost = [version for version, given_up in own.items() if self._is_over(given_up)]
        recorded = self._services.serving(endpoint.model, endpoint.environment)
        written = (self._of_former(endpoint) | set(own)) - {recorded.version if recorded else None}
        found = bool(written) and self._services.registry.aliases(endpoint.model).get(endpoint.environment) in written
        if not found:
            # Those whose time was over before the alias was read.
            self._services.unanswered.forget(endpoint, lost)
        return found

    def put_right(self, endpoint: Endpoint, holder: str) -> None:
        """Have the alias say what is recorded, under the lease; raise LeaseHeld."""
        with leases.holding(self._services, endpoint, holder):
            if self.arrived(endpoint):
                restore_alias(self._services, endpoint, holder)

    def _is_over(self, since: float) -> bool:
        return time.monotonic() - since >= self._services.timing.registry_s

    def _of_former(self, endpoint: Endpoint) -> set[str | None]:
        """Return what the former executor may have written under a lease: a version released before now, or none.

        Whoever held that lease: a release, or who undid or mended something, which brings back what was recorded then.
        No alias at all is what stands where nothing was released before, or a version that was deleted.
        """
        if self._former and may_wake(self._former):
            self._last_seen = time.monotonic()
        if self._is_over(self._last_seen):
            return set()
        if endpoint not in self._written:
            where = {"model": endpoint.model, "environment": endpoint.environment}
            history = self._services.records.find(ReleaseRecord, **where)
            held = any(leases.endpoint_of(lease) == endpoint and self._writes(lease) for lease in self._taken)
            held = held or self._has_taken(history)
            versions: set[str | None] = {release.version for release in history} if held else set()
            self._written[endpoint] = versions | {None} if versions else versions
        return self._written[endpoint]

    def _writes(self, lease: Lease) -> bool:
        """Whether whoever holds a lease may write the alias: maintenance never does."""
        return not self._services.records.find(Maintenance, id=lease.holder)

    def _has_taken(self, history: list[ReleaseRecord]) -> bool:
        """Whether the former executor had itself taken work over, and ended it right before it was replaced."""
        return any(
            release.state in (ReleaseState.UNDOING, ReleaseState.FAILED)
            and self._ended_lately(release.ended_at)
            and any(line.step == RECOVERED for line in progress_of(self._services.records, release.change_id))
            for release in history
        )

    def _ended_lately(self, at: str | None) -> bool:
        if self._former is None or at is None:
            return False
        ago = datetime.fromisoformat(self._begun_at) - datetime.fromisoformat(at)
        return 0 <= ago.total_seconds() < self._services.timing.registry_s
