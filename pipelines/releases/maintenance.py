"""Changes of the installation itself: each holds the leases of all environments, so that nothing is released meanwhile.

Whoever asked for one may die, so it also ends by itself: no lease is held for ever. Its age is told by a clock that
nobody sets, from when an executor first saw it.
"""

from dataclasses import asdict

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, LeaderLease, Lease, Maintenance, Promotion, Rollback
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import LostLease, SlipwayError
from pipelines.governance.models import served_models
from pipelines.governance.progress import progress_of, report_progress
from pipelines.governance.work import move, stop
from pipelines.ports import Records, Transaction
from pipelines.releases import leases
from pipelines.releases.leader import is_alive
from pipelines.releases.machine import Moment
from pipelines.releases.services import Services

# Longer than bringing everything up may take.
LIMIT_S = 1500.0


def move_maintenance(services: Services) -> None:
    """End the maintenance whose time has come, and let one that waits hold the leases if all are free."""
    for change in unfinished(services.records):
        if change.end_asked_at:
            _end(services, change)
        elif left_s(change, services.now()) <= 0:
            message = f"{change.id} was not ended within {LIMIT_S / 60:g} min, so it was given back"
            _end(services, change, LostLease(message, next=f'"make {change.verb}" again'))
        elif change.state is RunState.REQUESTED:
            _hold(services, change)


def unfinished(records: Records) -> list[Maintenance]:
    """Return the maintenance that hold the leases or wait for them."""
    return [
        change for state in (RunState.RUNNING, RunState.REQUESTED) for change in records.find(Maintenance, state=state)
    ]


def under_way(records: Records, now: str) -> list[str]:
    """Return the work that a living executor does, or begins without being asked again; maintenance aside."""
    if not any(is_alive(leader, now) for leader in records.find(LeaderLease)):
        return []
    work: list[Evaluation | Promotion | Rollback] = [
        *records.find(Evaluation, state=RunState.RUNNING),
        *records.find(Promotion, state=RunState.RUNNING),
        *records.find(Promotion, state=RunState.APPROVED),
        *records.find(Rollback, state=RunState.RUNNING),
        *records.find(Rollback, state=RunState.REQUESTED),
    ]
    holders = {lease.holder for lease in records.find(Lease) if lease.holder}
    return sorted({each.id for each in work} | holders - {change.id for change in unfinished(records)})


def _hold(services: Services, change: Maintenance) -> None:
    """Take all leases or none; while other work has one, or is about to, say which."""
    with services.records.write() as transaction:
        current, mark = transaction.get(Maintenance, change.id), asdict(Moment.present(services.now()))
        if current.end_asked_at:
            return
        if current.begun is None:
            current = transaction.change(current, begun=mark)
        models = served_models(transaction, services.model)
        endpoints = [Endpoint(model, environment) for model in models for environment in Environment]
        waiting = _in_the_way(transaction, endpoints)
        if waiting is None:
            for endpoint in endpoints:
                leases.take(transaction, services, endpoint.model, endpoint.environment, change.id)
            move(transaction, current, RunState.RUNNING, held_at=mark["at"], begun=mark)
            return
        told = progress_of(transaction, change.id)
        if not told or told[-1].message != waiting:
            report_progress(transaction, change.id, "waiting", waiting)


def _in_the_way(transaction: Transaction, endpoints: list[Endpoint]) -> str | None:
    """Name a piece of work that changes an environment, or has begun and will."""
    for endpoint in endpoints:
        for lease in transaction.find(Lease, id=leases.lease_id(endpoint.model, endpoint.environment)):
            if lease.holder:
                return f"for {lease.holder}, which changes {endpoint.environment}"
    kinds: tuple[type[Evaluation | Promotion | Rollback], ...] = (Evaluation, Promotion, Rollback)
    for kind in kinds:
        for work in transaction.find(kind, state=RunState.RUNNING):
            environment = Environment.STAGING if isinstance(work, Evaluation) else work.environment
            return f"for {work.id}, which changes {environment}"
    return None


def _end(services: Services, change: Maintenance, error: SlipwayError | None = None) -> None:
    """Give the leases back that it holds, and record so."""
    with services.records.write() as transaction:
        leases.free(transaction, services, change.id)
        if error:
            stop(transaction, change, error, at=services.now())
        else:
            move(transaction, change, RunState.DONE, ended_at=services.now())
        detail = {"verb": change.verb, "held_at": change.held_at, **(error.as_dict() if error else {})}
        transaction.audit("executor", "maintenance", "outcome", subject=change.id, detail=detail)


def left_s(change: Maintenance, now: str) -> float:
    """Return the seconds until maintenance ends by itself, negative for what should have ended."""
    since = Moment(**change.begun) if change.begun else Moment(change.held_at or change.created_at)
    return LIMIT_S - since.ago_s(now)
