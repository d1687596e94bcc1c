"""The lease of an environment: one holder at a time, fenced by an epoch that only grows.

A lease belongs to a piece of work (`holder`) in the hands of one executor. A new executor takes over
what the old one held under a larger epoch, so a frozen one that wakes finds that it has lost. Epochs go on
from the greater of database and target: a database restored from a backup may know an older one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from pipelines.domain.records import LeaderLease, Lease
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import LeaseHeld, LostLease
from pipelines.ports import Records, Transaction
from pipelines.releases.services import Services

# What is undone or mended takes its lease as often as it is tried; that is audited so often at most, as nothing is ever
# removed of the audit log.
TOLD_S = 24 * 3600.0

_TAKE = "lease.take"


def lease_id(model: str, environment: Environment) -> str:
    """Return the key of an environment's lease."""
    return f"{model}/{environment}"


def endpoint_of(lease: Lease) -> Endpoint:
    """Return the endpoint whose lease this is."""
    model, _, environment = lease.id.rpartition("/")
    return Endpoint(model, Environment(environment))


def acquire(services: Services, model: str, environment: Environment, holder: str, *, again: bool = False) -> int:
    """Take the lease for `holder` and return its epoch; taking it again is taking it once.

    Raises LeaseHeld, naming the holder and since when, and LostLease in an executor that was replaced.
    """
    seen = services.target.highest_epoch(Endpoint(model, environment))
    with services.records.write() as transaction:
        return take(transaction, services, model, environment, holder, above=seen, again=again)


def take(
    transaction: Transaction,
    services: Services,
    model: str,
    environment: Environment,
    holder: str,
    *,
    above: int = 0,
    again: bool = False,
) -> int:
    """Do what `acquire` does with what else `transaction` writes: several leases, or none of them.

    A lease that is taken anew gets an epoch greater than `above` too. Whoever takes it `again` and again for the same
    is not audited each time.
    """
    key = lease_id(model, environment)
    confirm_leader(services, within=transaction)
    found = transaction.find(Lease, id=key)
    lease = found[0] if found else Lease(key, None, 0, services.executor, services.now())
    if lease.holder not in (None, holder):
        raise LeaseHeld(
            f"{environment} is being changed by {lease.holder} since {lease.acquired_at}",
            next='wait for it ("slipway status"), then ask again',
        )
    if lease.holder == holder:
        return _own(lease, services).epoch
    taken = Lease(key, holder, max(lease.epoch, above) + 1, services.executor, services.now())
    transaction.put(taken)
    if not (again and is_told(transaction, services, holder, _TAKE)):
        transaction.audit("executor", _TAKE, "outcome", subject=holder, detail={"epoch": taken.epoch})
    return taken.epoch


def confirm(
    services: Services, model: str, environment: Environment, holder: str, within: Transaction | None = None
) -> int:
    """Return the epoch under which `holder` may act now; raise LostLease when it may not.

    `within` a transaction that writes on the strength of the lease, nobody can take it over in between.
    """
    lease = _own((within or services.records).get(Lease, lease_id(model, environment)), services)
    if lease.holder != holder:
        raise LostLease(
            f"lost lease: {environment} is held by {lease.holder}", next="nothing to do: its holder goes on"
        )
    return lease.epoch


@contextmanager
def confirmed(services: Services, model: str, environment: Environment, holder: str) -> Iterator[int]:
    """Give the epoch for one outside effect: the lease is confirmed right before it, and read back after it.

    Raises LostLease, also after the effect: then whoever holds the lease now puts right what came too late.
    """
    epoch = confirm(services, model, environment, holder)
    yield epoch
    confirm(services, model, environment, holder)


def confirm_leader(services: Services, *, within: Transaction | None = None) -> None:
    """Raise LostLease in an executor that was replaced, such as a frozen one that wakes."""
    source = within or services.records
    for leader in source.find(LeaderLease):
        if leader.executor != services.executor:
            raise lost(source, services.executor, leader)


def give_back(services: Services, holder: str) -> None:
    """End the holding of `holder`; leases that it does not hold are not changed."""
    with services.records.write() as transaction:
        free(transaction, services, holder)


@contextmanager
def holding(services: Services, endpoint: Endpoint, holder: str) -> Iterator[None]:
    """Hold the lease for a block, for what is no work of people and is tried again; raise as `acquire` does."""
    acquire(services, endpoint.model, endpoint.environment, holder, again=True)
    try:
        yield
    finally:
        give_back(services, holder)


def free(transaction: Transaction, services: Services, holder: str) -> None:
    """End the holding of `holder` with what else `transaction` writes."""
    for lease in transaction.find(Lease, holder=holder):
        transaction.change(_own(lease, services), holder=None)


def take_over(
    transaction: Transaction, leader: LeaderLease, now: str, *, seen: Mapping[str, int] | None = None
) -> list[Lease]:
    """Put every held lease into the hands of a new executor under a larger epoch, and return them.

    `seen` tells by a lease's id the greatest epoch that its target has met.
    """
    transaction.put(leader)
    held = [lease for lease in transaction.find(Lease) if lease.holder is not None]
    for lease in held:
        epoch = max(lease.epoch, (seen or {}).get(lease.id, 0)) + 1
        transaction.change(lease, epoch=epoch, executor=leader.executor, acquired_at=now)
    return held


def lost(source: Transaction | Records, executor: str, leader: LeaderLease) -> LostLease:
    """Return what an executor says that finds another one in its place."""
    taken = [lease.epoch for lease in source.find(Lease, executor=leader.executor) if lease.epoch > 1]
    epochs = f", epoch {max(taken) - 1} < {max(taken)}" if taken else ""
    return LostLease(
        f"lost lease{epochs}: executor {executor} was replaced by {leader.executor}",
        next="nothing to do: the other goes on",
    )


def is_told(transaction: Transaction, services: Services, subject: str, action: str) -> bool:
    """Whether an action was audited of a subject lately; what a clock set forward wrote counts as lately."""
    since = datetime.fromisoformat(services.now()) - timedelta(seconds=TOLD_S)
    told = [entry.at for entry in transaction.audited(subject) if entry.action == action]
    return bool(told) and datetime.fromisoformat(told[-1]) > since


def _own(lease: Lease, services: Services) -> Lease:
    if lease.executor != services.executor:
        raise LostLease(
            f"lost lease, epoch {lease.epoch - 1} < {lease.epoch}: executor {lease.executor} has taken over",
            next="nothing to do: the other executor goes on",
        )
    return lease
