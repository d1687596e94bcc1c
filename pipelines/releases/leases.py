"""The lease of an environment: one holder at a time, fenced by an epoch that only grows.

A lease belongs to a piece of work (`holder`) in the hands of one executor. A new executor takes over
what the old one held under a larger epoch, so a frozen one that wakes finds that it has lost.
"""

from pipelines.domain.records import LeaderLease, Lease
from pipelines.domain.release import Environment
from pipelines.errors import LeaseHeld, LostLease
from pipelines.ports import Transaction
from pipelines.releases.services import Services


def lease_id(model: str, environment: Environment) -> str:
    """Return the key of an environment's lease."""
    return f"{model}/{environment}"


def acquire(services: Services, model: str, environment: Environment, holder: str) -> int:
    """Take the lease for `holder` and return its epoch; taking it again is taking it once.

    Raises LeaseHeld, naming the holder and since when, and LostLease in an executor that was replaced.
    """
    with services.records.write() as transaction:
        return take(transaction, services, model, environment, holder)


def take(transaction: Transaction, services: Services, model: str, environment: Environment, holder: str) -> int:
    """Do what `acquire` does with what else `transaction` writes: several leases, or none of them."""
    key = lease_id(model, environment)
    refuse_replaced(transaction, services)
    found = transaction.find(Lease, id=key)
    lease = found[0] if found else Lease(key, None, 0, services.executor, services.now())
    if lease.holder not in (None, holder):
        raise LeaseHeld(
            f"{environment} is being changed by {lease.holder} since {lease.acquired_at}",
            next='wait for it ("slipway status"), then ask again',
        )
    if lease.holder == holder:
        return _own(lease, services).epoch
    taken = Lease(key, holder, lease.epoch + 1, services.executor, services.now())
    transaction.put(taken)
    transaction.audit("executor", "lease.take", "outcome", subject=holder, detail={"epoch": taken.epoch})
    return taken.epoch


def confirm(
    services: Services, model: str, environment: Environment, holder: str, within: Transaction | None = None
) -> int:
    """Return the epoch under which `holder` may act now; raise LostLease when it may not.

    `within` a transaction that writes on the strength of the lease, nobody can take it over in between.
    """
    lease = (within or services.records).get(Lease, lease_id(model, environment))
    if lease.holder != holder:
        raise LostLease(
            f"lost lease: {environment} is held by {lease.holder}", next="nothing to do: its holder goes on"
        )
    return _own(lease, services).epoch


def give_back(services: Services, holder: str) -> None:
    """End the holding of `holder`; leases that it does not hold are not changed."""
    with services.records.write() as transaction:
        free(transaction, services, holder)


def free(transaction: Transaction, services: Services, holder: str) -> None:
    """End the holding of `holder` with what else `transaction` writes."""
    for lease in transaction.find(Lease, holder=holder):
        transaction.change(_own(lease, services), holder=None)


def take_over(transaction: Transaction, leader: LeaderLease, now: str) -> list[Lease]:
    """Put every held lease into the hands of a new executor under a larger epoch, and return them."""
    transaction.put(leader)
    held = [lease for lease in transaction.find(Lease) if lease.holder is not None]
    for lease in held:
        transaction.change(lease, epoch=lease.epoch + 1, executor=leader.executor, acquired_at=now)
    return held


def refuse_replaced(transaction: Transaction, services: Services) -> None:
    """Keep a frozen executor that wakes from changing what nobody holds; raise LostLease."""
    for leader in transaction.find(LeaderLease):
        if leader.executor != services.executor:
            raise LostLease(
                f"executor {services.executor} was replaced by {leader.executor}",
                next="nothing to do: the other goes on",
            )


def _own(lease: Lease, services: Services) -> Lease:
    if lease.executor != services.executor:
        raise LostLease(
            f"lost lease, epoch {lease.epoch - 1} < {lease.epoch}: executor {lease.executor} has taken over",
            next="nothing to do: the other executor goes on",
        )
    return lease
