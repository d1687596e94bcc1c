"""Looking, not touching: what serves, what the alias says, and what the record says it should be."""

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime

from pipelines.domain.events import EventKind
from pipelines.domain.records import Lease, Observation
from pipelines.domain.release import Endpoint, Environment, Release, Slot, SlotState
from pipelines.errors import SlipwayError
from pipelines.releases.alias import is_deleted
from pipelines.releases.leases import lease_id
from pipelines.releases.maintenance import unfinished
from pipelines.releases.services import Services

# How old the stored look may be while nothing changes.
STORED_S = 10.0
# The same drift is told so often at most: what comes and goes would fill the audit log, of which nothing is removed.
TOLD_S = 600.0


class Drifts:
    """Which drifts were told lately, by this process."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], float] = {}

    def is_due(self, key: str, drift: str) -> bool:
        """Whether a drift was not told lately."""
        self._told = {each: at for each, at in self._told.items() if time.monotonic() - at < TOLD_S}
        return (key, drift) not in self._told

    def note(self, key: str, drift: str) -> None:
        """Keep in mind that a drift was told now."""
        self._told[key, drift] = time.monotonic()


def observe_environment(
    services: Services,
    model: str,
    environment: Environment,
    aliases: Callable[[], dict[str, str]] | None = None,
    drifts: Drifts | None = None,
) -> Observation:
    """Return what an environment serves now; audit a drift once, when it appears, and not again for a while.

    That while needs the `drifts` of the looks before. `aliases` gives the registry's, where they were asked for
    already. A look that found nothing new is stored now and then only, but each one while maintenance goes on: whoever
    does that compares looks.
    """
    key = lease_id(model, environment)
    leases = services.records.find(Lease, id=key)
    recorded = services.serving(model, environment)
    alias, replicas, seen_drift, unseen = None, [], None, None
    release = recorded.release if recorded else None
    try:
        state = services.target.observe(Endpoint(model, environment), Slot.LIVE)
        replicas = [dataclasses.asdict(replica) for replica in state.replicas]
        alias = (aliases() if aliases else services.registry.aliases(model)).get(environment)
        seen_drift = find_drift(release, alias, state)
        if aliases and seen_drift:
            # What was asked for before the record was read may be older than that.
            alias = services.registry.aliases(model).get(environment)
            seen_drift = find_drift(release, alias, state)
        if seen_drift and release and alias is None:
            deleted = is_deleted(services.registry.version, model, release.version)
            seen_drift = find_drift(release, alias, state, deleted=deleted)
    except SlipwayError as error:
        unseen = f"can't look: {error.message}"
    # What changed hands during the look was seen half-way: that is no drift.
    if services.records.find(Lease, id=key) != leases or any(lease.holder for lease in leases):
        seen_drift = None
    before = next(iter(services.records.find(Observation, id=key)), None)
    version = recorded.version if recorded else None
    seen = Observation(key, version, alias, replicas, seen_drift or unseen, services.now())
    if before and _says_the_same(before, seen) and not unfinished(services.records):
        return before
    drifts = drifts or Drifts()
    new = seen_drift if seen_drift and (not before or before.drift != seen_drift) else None
    told = new if new and drifts.is_due(key, new) else None
    with services.records.write() as transaction:
        if told:
            transaction.audit("executor", "drift", "outcome", subject=key, detail={"drift": told})
            transaction.emit(EventKind.DISAGREEMENT_APPEARED, subject=key, model=model, detail={"drift": told})
        transaction.put(seen)
    if told:
        drifts.note(key, told)
    return seen


def _says_the_same(before: Observation, seen: Observation) -> bool:
    """Whether a look needs no storing: nothing is new, and the stored one is not old."""
    age = datetime.fromisoformat(seen.at) - datetime.fromisoformat(before.at)
    # One of the future was stored before the clock was set back.
    return dataclasses.replace(before, at=seen.at) == seen and 0 <= age.total_seconds() < STORED_S


def find_drift(recorded: Release | None, alias: str | None, state: SlotState, *, deleted: bool = False) -> str | None:
    """Return how record, alias and replicas disagree, or None when they agree.

    Of a version that was `deleted` from the registry there can be no alias; that is told if all else agrees.
    """
    if alias != (recorded.version if recorded else None) and not deleted:
        return f"the alias points at version {alias}, the release record at {recorded.version if recorded else None}"
    if recorded is None:
        served = {replica.version for replica in state.replicas if replica.version}
        return f"nothing is released, but version {', '.join(sorted(served))} is served" if served else None
    wrong = [
        replica.name
        for replica in state.replicas
        if replica.ready and (replica.digest, replica.version) != (recorded.bundle_digest, recorded.version)
    ]
    if wrong:
        return f"{', '.join(wrong)} serve something else than version {recorded.version}"
    if not any(replica.ready for replica in state.replicas):
        return f"no replica of version {recorded.version} is ready"
    return f"version {recorded.version} serves, and is deleted from the registry" if deleted else None
