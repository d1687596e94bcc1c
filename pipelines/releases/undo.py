"""Undoing: whatever ended a change half-way, the recorded release serves again and the alias says so.

Until K9 the record names what is to serve. Whoever undoes holds the environment's lease, and writes the outcome of each
intent that the change left open. What can't be undone now stays recorded as UNDOING, for the next look.
"""

import logging
from collections.abc import Callable
from functools import partial

from pipelines.domain import audit
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Endpoint, Phase, Slot
from pipelines.errors import LostLease, Refused, SlipwayError
from pipelines.governance.standing import contradicted, half_undone
from pipelines.governance.work import tell_release
from pipelines.ports import Records, Transaction
from pipelines.releases import leases
from pipelines.releases.alias import point_alias
from pipelines.releases.services import Services
from pipelines.releases.waiting import wait_empty, wait_settled

_BESIDE = (Slot.TRIAL, Slot.BASELINE)

log = logging.getLogger("slipway.undo")


def bring_back(services: Services, endpoint: Endpoint, holder: str) -> list[str]:
    """Restore what the record says, in target and registry, under `holder`'s lease; return the troubles met.

    Each part is tried, whatever became of the one before it. Raises LostLease.
    """

    def target_back() -> None:
        recorded = restore_target(services, endpoint, holder)
        if recorded:
            again = partial(restore_target, services, endpoint, holder)
            wait_settled(services, endpoint, Slot.LIVE, recorded.id, order=again)
        else:
            wait_empty(services, endpoint, Slot.LIVE)

    return _troubles(target_back, lambda: restore_alias(services, endpoint, holder))


def restore_target(services: Services, endpoint: Endpoint, holder: str) -> ReleaseRecord | None:
    """Begin to serve the recorded release again, under `holder`'s lease, and return it; None empties the live slot.

    Raises Refused for a record that was changed since: what serves goes on serving.
    """
    recorded = services.serving(endpoint.model, endpoint.environment)
    if recorded:
        refuse_contradicted(services.records, recorded)
    with leases.confirmed(services, endpoint.model, endpoint.environment, holder) as epoch:
        services.target.restore(endpoint, recorded.release if recorded else None, epoch=epoch)
    return recorded


def refuse_contradicted(records: Records, release: ReleaseRecord) -> None:
    """Raise Refused for a release of whose version or bundle something else was recorded when it was asked for."""
    wrong = contradicted(records, release)
    if wrong:
        raise Refused(
            f"the record was changed, and is not served: {wrong}",
            next='see "slipway doctor" and "slipway audit"; promote another version, or restore a backup',
        )


def restore_alias(services: Services, endpoint: Endpoint, holder: str) -> None:
    """Have the alias say the recorded version again, under `holder`'s lease.

    Whoever tries again later finds what was begun: it is audited of what is recorded, or of the endpoint, not of who
    holds the lease.
    """
    recorded = services.serving(endpoint.model, endpoint.environment)
    nothing = leases.lease_id(endpoint.model, endpoint.environment)
    version, subject = (recorded.version, recorded.id) if recorded else (None, nothing)
    point_alias(services, endpoint, version, holder=holder, actor="executor", subject=subject, served_before=True)


def occupied(services: Services, endpoint: Endpoint) -> list[Slot]:
    """Return the slots beside the live one that are not empty."""
    return [slot for slot in _BESIDE if services.target.observe(endpoint, slot).phase is not Phase.EMPTY]


def empty_slots(services: Services, endpoint: Endpoint, holder: str) -> list[str]:
    """Empty the slots beside the live one, under `holder`'s lease; return the troubles met."""

    def emptied(slot: Slot) -> None:
        if services.target.observe(endpoint, slot).phase is Phase.EMPTY:
            return
        with leases.confirmed(services, endpoint.model, endpoint.environment, holder) as epoch:
            services.target.stop(endpoint, slot, epoch=epoch)
        wait_empty(services, endpoint, slot)

    return _troubles(*(partial(emptied, slot) for slot in _BESIDE))


def undo_left(services: Services, endpoint: Endpoint, holder: str) -> list[str]:
    """Undo what others left half-done in an environment whose lease `holder` has; return the troubles met."""
    left = half_undone(services.records, endpoint)
    where = {"model": endpoint.model, "environment": endpoint.environment}
    for release in services.records.find(ReleaseRecord, **where, state=ReleaseState.STARTING):
        # Who began it had the lease, and has it no more.
        if release.change_id != holder:
            left.append(release)
    if not left:
        return []
    troubles = bring_back(services, endpoint, holder)
    if not troubles:
        with services.records.write() as transaction:
            leases.confirm(services, endpoint.model, endpoint.environment, holder, within=transaction)
            for release in left:
                if release.state is ReleaseState.STARTING:
                    fail(transaction, services, release, "nobody went on with it", [])
                else:
                    settle(transaction, services, release, {"result": "undone"})
    return troubles


def fail(transaction: Transaction, services: Services, release: ReleaseRecord, why: str, troubles: list[str]) -> None:
    """Record with what else `transaction` writes that a release came to nothing: with `troubles`, not undone yet."""
    state = ReleaseState.UNDOING if troubles else ReleaseState.FAILED
    told = "; ".join([why, *(f"not undone: {trouble}" for trouble in troubles)])[:800]
    failed = transaction.change(release, state=state, ended_at=services.now())
    tell_release(transaction, EventKind.RELEASE_FAILED, failed, why=told)
    end_intents(transaction, failed, {"result": "failed", "why": told})


def settle(transaction: Transaction, services: Services, release: ReleaseRecord, outcome: dict[str, str]) -> None:
    """Record that nothing is left of a release that came to nothing."""
    transaction.change(release, state=ReleaseState.FAILED)
    detail = {"environment": release.environment, "version": release.version, **outcome}
    transaction.audit("executor", f"release.{release.kind}", "outcome", subject=release.id, detail=detail)


def end_intents(
    transaction: Transaction, release: ReleaseRecord, outcome: dict[str, str], *, subject: str | None = None
) -> None:
    """Write the outcome of each effect that was begun for a release, or for another `subject`, and did not end."""
    subject = subject or release.id
    detail = {"environment": release.environment, "version": release.version, **outcome}
    open_actions = {entry.action for entry in audit.open_intents(transaction.audited(subject))}
    for action in sorted(open_actions):
        transaction.audit(release.actor, action, "outcome", subject=subject, detail=detail)


def _troubles(*undoings: Callable[[], None]) -> list[str]:
    """Carry out each, whatever became of the one before it, and return what was in the way."""
    troubles = []
    for undo in undoings:
        try:
            undo()
        except LostLease:
            raise
        except SlipwayError as error:
            troubles.append(error.message)
        except Exception as bug:
            log.exception("a bug while undoing")
            troubles.append(f"{type(bug).__name__}: {bug}"[:300])
    return troubles
