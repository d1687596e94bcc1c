"""The executor's leader lease: one process holds it, and shows by a heartbeat that it lives.

Ages are told by the clock of the machine's start, which nobody can set. Of another machine, whose clock says nothing
here, only what is seen to change counts.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from pipelines.domain.records import LeaderLease, Lease
from pipelines.errors import DatabaseUnavailable, Refused, SlipwayError
from pipelines.releases import leases
from pipelines.releases.machine import Moment, born_s
from pipelines.releases.services import Services

HEARTBEAT_S = 2.0
LEADER_LOST_S = 5 * HEARTBEAT_S
# So long an executor waits for one of another host, whose process it can't see, to leave or to fall silent.
PATIENCE_S = 3 * LEADER_LOST_S
_LOOK_S = 0.2

log = logging.getLogger("slipway.leader")


@dataclass(frozen=True)
class Succession:
    """Which executor was there before, None at the very first start, and the leases that were taken over from it."""

    former: LeaderLease | None
    leases: list[Lease]


def take_leader_lease(
    services: Services, *, patience_s: float = PATIENCE_S, show_life: Callable[[], None] = lambda: None
) -> Succession:
    """Become the executor, taking over what a dead one held.

    Raises Refused while another is alive: at once on its own host, elsewhere after `patience_s`. For a database that
    is away it waits without an end; a frozen executor that has it locked is ended. Calls `show_life` while it waits.
    """
    deadline = time.monotonic() + patience_s
    seen: tuple[LeaderLease | None, float] = (None, 0.0)
    told = ""
    while True:
        try:
            former = next(iter(services.records.find(LeaderLease)), None)
            if former != seen[0]:
                seen = former, time.monotonic()
            if former is None or not _lives(former, unchanged_s=time.monotonic() - seen[1]):
                taken = _take(services, former)
                if taken is not None:
                    return Succession(former, taken)
            elif former.host == socket.gethostname() or time.monotonic() > deadline:
                raise Refused(
                    f"an executor runs already as process {former.pid} of {former.host}",
                    next='one is enough; "slipway down" stops it',
                )
        except DatabaseUnavailable as error:
            waits = f"no leader lease yet: {error.message}{end_frozen(seen[0], services.now())}"
            if waits != told:
                log.error("%s", waits)
            told = waits
        show_life()
        time.sleep(_LOOK_S)


def _take(services: Services, former: LeaderLease | None) -> list[Lease] | None:
    """Take the leader lease and what `former` held; None when it has shown itself again, or another was faster."""
    seen_epochs = _target_epochs(services)
    with services.records.write() as transaction:
        if next(iter(transaction.find(LeaderLease)), None) != former:
            return None
        process, mark = psutil.Process(), Moment.present(services.now())
        leader = LeaderLease(
            "executor", services.executor, process.pid, born_s(process), mark.at, socket.gethostname(),
            None, mark.boot_id, mark.boot_s,
        )  # fmt: skip
        return leases.take_over(transaction, leader, mark.at, seen=seen_epochs)


def renew_leader_lease(services: Services) -> None:
    """Show that this executor lives; raise LostLease when another has taken its leader lease."""
    # Also by a read: who was frozen may find that nobody can write.
    leases.confirm_leader(services)
    with services.records.write() as transaction:
        leases.confirm_leader(services, within=transaction)
        mark = Moment.present(services.now())
        leader = transaction.get(LeaderLease, "executor")
        transaction.change(leader, heartbeat_at=mark.at, boot_id=mark.boot_id, beat_s=mark.boot_s)


def give_up_leader_lease(services: Services) -> None:
    """Give the leader lease up, so that a successor begins at once; another's leader lease is left alone."""
    with services.records.write() as transaction:
        for leader in transaction.find(LeaderLease, executor=services.executor):
            transaction.change(leader, left_at=services.now())


def is_alive(leader: LeaderLease, now: str) -> bool:
    """Whether an executor has shown itself lately and, where that can be seen, its process still runs."""
    return leader.left_at is None and silent_s(leader, now) < LEADER_LOST_S and _may_run(leader)


def silent_s(leader: LeaderLease, now: str) -> float:
    """Return the seconds since an executor has shown itself, by a clock that does not step on its own machine."""
    return _last_sign(leader).ago_s(now)


def may_wake(leader: LeaderLease) -> bool:
    """Whether the process of an executor is seen to be there, working or frozen."""
    return _status(leader) is not None


def end_frozen(leader: LeaderLease | None, now: str) -> str:
    """End an executor that is frozen and has lost its lease: it keeps for ever what it has locked. Say what was done.

    Return "" where none is seen to be frozen on this host.
    """
    if leader is None or _status(leader) != psutil.STATUS_STOPPED:
        return ""
    frozen = f"; executor {leader.executor}, process {leader.pid}, is frozen"
    if silent_s(leader, now) < LEADER_LOST_S:
        return frozen
    try:
        psutil.Process(leader.pid).kill()
    except psutil.Error as error:
        return f"{frozen} and can't be ended: {error}"
    return f"{frozen} and was ended"


def _lives(leader: LeaderLease, *, unchanged_s: float) -> bool:
    """Whether a leader may still act; of another machine, nothing counts but that its lease has not changed so long."""
    if leader.left_at or not _may_run(leader):
        return False
    own_s = _last_sign(leader).ago_here_s()
    return (unchanged_s if own_s is None else own_s) < LEADER_LOST_S


def _last_sign(leader: LeaderLease) -> Moment:
    return Moment(leader.heartbeat_at, leader.boot_id, leader.beat_s)


def _target_epochs(services: Services) -> dict[str, int]:
    """Return the greatest epochs that the targets of held leases have met, as far as they answer."""
    found = {}
    for lease in services.records.find(Lease):
        if lease.holder is None:
            continue
        try:
            found[lease.id] = services.target.highest_epoch(leases.endpoint_of(lease))
        except SlipwayError as error:
            log.warning("which epoch %s has seen is not known: %s", lease.id, error.message)
    return found


def _may_run(leader: LeaderLease) -> bool:
    # The process ids of another host, or of another container, say nothing here.
    return leader.host != socket.gethostname() or _status(leader) not in (None, psutil.STATUS_STOPPED)


def _status(leader: LeaderLease) -> str | None:
    """Return how an executor's process is, in psutil's words; None for one that is gone, or can't be seen here."""
    try:
        process = psutil.Process(leader.pid)
        is_it = leader.host == socket.gethostname() and abs(born_s(process) - leader.process_started) < 1
        return process.status() if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
