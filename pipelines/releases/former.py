"""What a former executor may still write after its leases were taken over, and how it is put right.

The registry knows no epochs: a call that was on its way when its caller was replaced may still arrive. That is over
when the former process is gone, or can't be seen, and the longest such call has met its deadline; from then on an
alias that says something else was moved by somebody, is shown, and left alone.
"""

import time

from pipelines.domain.records import Lease, ReleaseRecord
from pipelines.domain.release import Endpoint
from pipelines.releases import leases
from pipelines.releases.leader import Succession, may_wake
from pipelines.releases.services import Services
from pipelines.releases.undo import restore_alias


class FormerExecutor:
    """The executor before this one, and the leases that were taken over from it."""

    def __init__(self, services: Services, succession: Succession) -> None:
        self._services = services
        self._former = succession.former
        self._taken = [lease for lease in succession.leases if lease.holder]
        self._last_seen = time.monotonic()

    def wrote_too_late(self, endpoint: Endpoint) -> bool:
        """Whether an alias says what only the former executor may have written; raise RegistryUnavailable."""
        taken = [lease for lease in self._taken if leases.endpoint_of(lease) == endpoint]
        if not taken or not self._may_still_write():
            return False
        written = self._written(endpoint, taken)
        recorded = self._services.serving(endpoint.model, endpoint.environment)
        if not written - {recorded.version if recorded else None}:
            return False
        aliased = self._services.registry.aliases(endpoint.model).get(endpoint.environment)
        return aliased in written - {recorded.version if recorded else None}

    def put_right(self, endpoint: Endpoint, holder: str) -> None:
        """Have the alias say what is recorded, under the lease; raise LeaseHeld."""
        with leases.holding(self._services, endpoint, holder):
            if self.wrote_too_late(endpoint):
                restore_alias(self._services, endpoint, holder)

    def _may_still_write(self) -> bool:
        if self._former and may_wake(self._former):
            self._last_seen = time.monotonic()
        return time.monotonic() - self._last_seen < self._services.timing.registry_s

    def _written(self, endpoint: Endpoint, taken: list[Lease]) -> set[str]:
        """Return the versions that its work may have written: its own, or in undoing those of releases before."""
        where = {"model": endpoint.model, "environment": endpoint.environment}
        history = self._services.records.find(ReleaseRecord, **where)
        holders = {lease.holder for lease in taken}
        places = [place for place, release in enumerate(history) if release.change_id in holders]
        return {release.version for release in history[: max(places, default=-1) + 1]}
