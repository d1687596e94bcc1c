"""Mends the slots of an endpoint that nobody works on, where they differ from the record for a reason that is known.

A live slot of which nothing was ever asked is that of a new target, as after a restore, or of a supervisor that lost
its record: what is recorded is served there again. One that was asked for that and did not bring it up, as on a busy
machine, is asked again. A slot beside it was left by an evaluation: it is emptied. Something else that a target was
asked for in its live slot is never overridden, and an alias that somebody moved is left alone.
"""

from pipelines.domain import audit
from pipelines.domain.records import Lease, ReleaseRecord
from pipelines.domain.release import Endpoint, Phase, Slot
from pipelines.ports import Records, Transaction
from pipelines.releases import leases
from pipelines.releases.services import Services
from pipelines.releases.undo import empty_slots, occupied, refuse_contradicted, restore_target

_REVIVAL = "revival"


def mending(endpoint: Endpoint) -> str:
    """Return who holds the lease of an endpoint while it is mended."""
    return f"mending-{leases.lease_id(endpoint.model, endpoint.environment)}"


def is_at_rest(services: Services, endpoint: Endpoint) -> bool:
    """Whether nobody but mending itself holds the lease of an endpoint."""
    held = services.records.find(Lease, id=leases.lease_id(endpoint.model, endpoint.environment))
    return all(lease.holder in (None, mending(endpoint)) for lease in held)


def mend_slots(services: Services, endpoint: Endpoint) -> list[str]:
    """Serve what is recorded and empty what was left, as far as it is due, under the lease; return the troubles met.

    Raises LeaseHeld, and what a target raises that is away.
    """
    if not is_at_rest(services, endpoint):
        return []
    _end_revived(services, endpoint)
    if not (_lacking(services, endpoint) or occupied(services, endpoint)):
        return []
    holder = mending(endpoint)
    with leases.holding(services, endpoint, holder):
        # What was seen before the lease was held may have been done meanwhile.
        recorded = _lacking(services, endpoint)
        if recorded:
            _revive(services, recorded, holder)
        return empty_slots(services, endpoint, holder)


def _lacking(services: Services, endpoint: Endpoint) -> ReleaseRecord | None:
    """Return the recorded release of a live slot that knows of none, or did not bring that up."""
    recorded = services.serving(endpoint.model, endpoint.environment)
    if recorded is None:
        return None
    state = services.target.observe(endpoint, Slot.LIVE)
    if state.phase is Phase.FAILED and state.wanted_id == recorded.id:
        return recorded
    return None if state.wanted_id or state.release else recorded


def _revive(services: Services, recorded: ReleaseRecord, holder: str) -> None:
    """Begin to serve a recorded release; until it is asked for, the intent stays open.

    What is asked for again and again is audited as seldom as its lease is.
    """
    refuse_contradicted(services.records, recorded)
    endpoint = recorded.release.endpoint
    again = services.target.observe(endpoint, Slot.LIVE).wanted_id == recorded.id
    detail = {"version": recorded.version, "bundle": recorded.bundle_digest}
    with services.records.write() as transaction:
        told = again and leases.is_told(transaction, services, recorded.id, _REVIVAL)
        if not (told or _is_begun(transaction, recorded)):
            transaction.audit("executor", _REVIVAL, "intent", subject=recorded.id, detail=detail)
    services.target.prepare(endpoint, recorded.bundle_digest)
    restore_target(services, endpoint, holder)
    _end_revived(services, endpoint)


def _end_revived(services: Services, endpoint: Endpoint) -> None:
    """Write the outcome of a revival whose release is asked for by now: also one that was cut off before it did."""
    recorded = services.serving(endpoint.model, endpoint.environment)
    # Looked at often, and hardly ever there: neither the target is asked nor the records are locked for nothing.
    if recorded is None or not _is_begun(services.records, recorded):
        return
    if services.target.observe(endpoint, Slot.LIVE).wanted_id != recorded.id:
        return
    detail = {"version": recorded.version, "bundle": recorded.bundle_digest}
    with services.records.write() as transaction:
        if _is_begun(transaction, recorded):
            transaction.audit("executor", _REVIVAL, "outcome", subject=recorded.id, detail=detail)


def _is_begun(source: Records | Transaction, recorded: ReleaseRecord) -> bool:
    return any(entry.action == _REVIVAL for entry in audit.open_intents(source.audited(recorded.id)))
