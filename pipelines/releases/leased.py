"""Work under an environment's lease: whatever comes, it ends with its outcome on record and the lease given back."""

import time
from collections.abc import Callable

from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Lease, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import DeployFailed, LeaseHeld, LostLease, SlipwayError, Undecided
from pipelines.governance.work import stop
from pipelines.ports import Records, Step, Transaction
from pipelines.releases import leases
from pipelines.releases.mending import mending
from pipelines.releases.rollout import at_step
from pipelines.releases.services import Services
from pipelines.releases.undo import bring_back, empty_slots, fail, undo_left
from pipelines.releases.waiting import read

Leased = Evaluation | Promotion | Rollback

# What each kind of work that takes a lease is called in the audit trail when it stops.
_STOP_ACTIONS: dict[type[Leased], str] = {
    Evaluation: "evaluation.stop",
    Promotion: "promotion.stop",
    Rollback: "rollback.stop",
}
KINDS = tuple(_STOP_ACTIONS)


def endpoint_of(work: Leased) -> Endpoint:
    """Return the endpoint that a piece of work changes."""
    return Endpoint(work.model, Environment.STAGING if isinstance(work, Evaluation) else work.environment)


def work_of(source: Records | Transaction, id: str) -> list[Leased]:
    """Return the work of an id, whatever its kind: one piece, or none."""
    return [work for kind in KINDS for work in source.find(kind, id=id)]


def under_lease(services: Services, work: Leased, step: Step, *, carry_out: Callable[[], None]) -> None:
    """Take the lease (K0), carry out, and give it back (K10); a refusal on the way stops the work and is recorded.

    Who undoes, mends or ends there what was cut off is waited out. What others left half-done is undone first, and the
    slots beside the live one are emptied, as far as it can be. Raises LostLease: who has lost the lease may write
    nothing any more.

    Work whose end is on record is not gone on with: it has given its lease back, whatever the journal still says.
    """
    # A backup has the journal of a moment before that of its records.
    if read(services, type(work), work.id).state.final:
        return
    endpoint, holds = endpoint_of(work), False

    def take() -> int:
        epoch = _acquire(services, endpoint, work)
        left = undo_left(services, endpoint, work.id) + empty_slots(services, endpoint, work.id)
        _tell(services, work, "K0 lease taken", left)
        return epoch

    def stop() -> None:
        if holds:
            _tell(services, work, "stopped", empty_slots(services, endpoint, work.id))
        stop_work(services, work, stopped)

    try:
        step("K0 lease taken", lambda: at_step(services, "K0", take))
        holds = True
        carry_out()
    except LostLease:
        raise
    except SlipwayError as refusal:
        stopped = refusal
        step("stopped", stop)
    step("K10 lease given back", lambda: at_step(services, "K10", lambda: leases.give_back(services, work.id)))


def stop_work(services: Services, work: Leased, error: SlipwayError, troubles: list[str] | None = None) -> None:
    """Record that work does not go on, nor what it left half-way, and give its leases back.

    `troubles` say what of that is not undone yet, none that all is; without them nobody has undone it. The promotions
    that wait for an evaluation end with it.
    """
    with services.records.write() as transaction:
        current = transaction.get(type(work), work.id)
        if current.state.final:
            leases.free(transaction, services, work.id)
            return
        _record_stop(transaction, services, current, error)
        for release in transaction.find(ReleaseRecord, change_id=work.id, state=ReleaseState.STARTING):
            left = ["nobody could do it yet"] if troubles is None else troubles
            fail(transaction, services, release, error.message, left)
        leases.free(transaction, services, work.id)
        if isinstance(current, Evaluation):
            for promotion in transaction.find(Promotion, evaluation_id=current.id, state=RunState.REQUESTED):
                _record_stop(transaction, services, promotion, error)


def end_cut_off(services: Services, work: Leased) -> None:
    """End work that no thread carries out any more: what stands half-done is undone, then its outcome is recorded."""
    endpoint = endpoint_of(work)
    begun = services.records.find(ReleaseRecord, change_id=work.id, state=ReleaseState.STARTING)
    troubles: list[str] | None = None
    try:
        leases.acquire(services, endpoint.model, endpoint.environment, work.id)
    except LeaseHeld as held:
        # Whoever holds it undoes first what stands half-done there.
        told = [held.message]
    else:
        told = empty_slots(services, endpoint, work.id)
        troubles = bring_back(services, endpoint, work.id) if begun else []
    stop_work(services, work, _cut_off(work, begun, told + (troubles or [])), troubles)


def _acquire(services: Services, endpoint: Endpoint, work: Leased) -> int:
    """Take the lease and return its epoch, waiting for whoever puts something right there; raise LeaseHeld."""
    timing, told = services.timing, ""
    deadline = time.monotonic() + timing.converge_s + 2 * timing.empty_s + timing.registry_s
    while True:
        try:
            return leases.acquire(services, endpoint.model, endpoint.environment, work.id)
        except LeaseHeld as held:
            if not _passes(services, endpoint) or time.monotonic() > deadline:
                raise
            if held.message != told:
                services.note(work.id, "K0 lease taken", f"waiting: {held.message}")
            told = held.message
        time.sleep(10 * timing.poll_s)


def _passes(services: Services, endpoint: Endpoint) -> bool:
    """Whether a lease is free by now, or held by no work that goes on.

    That is while a release is undone, slots are mended, or work is ended that no thread carries out any more.
    """
    records = services.records
    (lease,) = records.find(Lease, id=leases.lease_id(endpoint.model, endpoint.environment))
    holder = lease.holder
    if holder is None or holder == mending(endpoint) or records.find(ReleaseRecord, id=holder):
        return True
    return bool(work_of(records, holder)) and not services.works_on(holder)


def _cut_off(work: Leased, begun: list[ReleaseRecord], troubles: list[str]) -> SlipwayError:
    message = "\n".join([f"{work.id} was cut off", *(f"not undone: {trouble}" for trouble in troubles)])
    if begun:
        return DeployFailed(message, next='what was released before serves: see "slipway status", then ask again')
    return Undecided(message, next="nothing was changed: ask again")


def _tell(services: Services, work: Leased, step: str, troubles: list[str]) -> None:
    for trouble in troubles:
        services.note(work.id, step, f"not undone yet: {trouble}")


def _record_stop(transaction: Transaction, services: Services, work: Leased, error: SlipwayError) -> None:
    stop(transaction, work, error, at=services.now())
    detail = error.as_dict()
    transaction.audit("executor", _STOP_ACTIONS[type(work)], "outcome", subject=work.id, detail=detail)
