"""Looking, not touching: what serves, what the alias says, and what the record says it should be."""

import dataclasses
from collections.abc import Callable
from datetime import datetime

from pipelines.domain.events import EventKind
from pipelines.domain.records import Lease, Observation
from pipelines.domain.release import Endpoint, Environment, Release, Slot, SlotState
from pipelines.errors import SlipwayError
from pipelines.releases.leases import lease_id
from pipelines.releases.maintenance import unfinished
from pipelines.releases.services import Services

# How old the stored look may be while nothing changes.
STORED_S = 10.0


def observe_environment(
    services: Services, model: str, environment: Environment, aliases: Callable[[], dict[str, str]] | None = None
) -> Observation:
    """Return what an environment serves now; audit a drift once, when it appears.

    `aliases` gives the registry's, where they were asked for already. A look that found nothing new is stored now and
    then only, but each one while maintenance goes on: whoever does that compares looks.
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
    with services.records.write() as transaction:
        if seen_drift and (not before or before.drift != seen_drift):
            transaction.audit("executor", "drift", "outcome", subject=key, detail={"drift": seen_drift})
            transaction.emit(EventKind.DISAGREEMENT_APPEARED, subject=key, model=model, detail={"drift": seen_drift})
        transaction.put(seen)
    return seen


def _says_the_same(before: Observation, seen: Observation) -> bool:
    """Whether a look needs no storing: nothing is new, and the stored one is not old."""
    age = datetime.fromisoformat(seen.at) - datetime.fromisoformat(before.at)
    # One of the future was stored before the clock was set back.
    return dataclasses.replace(before, at=seen.at) == seen and 0 <= age.total_seconds() < STORED_S


def find_drift(recorded: Release | None, alias: str | None, state: SlotState) -> str | None:
    """Return how record, alias and replicas disagree, or None when they agree."""
    if alias != (recorded.version if recorded else None):
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
    return None
