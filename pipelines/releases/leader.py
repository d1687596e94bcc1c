"""The executor's leader lease: one process holds it, and shows by a heartbeat that it lives.

Ages are told by the clock of the machine's start, which nobody can set. Of another machine, whose clock says nothing
here, only what is seen to change counts.
"""

import logging
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil

from pipelines.domain.records import LeaderLease, Lease
from pipelines.errors import Refused, SlipwayError
from pipelines.releases import leases
from pipelines.releases.services import Services

HEARTBEAT_S = 2.0
LEADER_LOST_S = 5 * HEARTBEAT_S
# So long an executor waits for one of another host, whose process it can't see, to leave or to fall silent.
PATIENCE_S = 3 * LEADER_LOST_S
_LOOK_S = 0.2

log = logging.getLogger("slipway.leader")


def take_leader_lease(
    services: Services, *, patience_s: float = PATIENCE_S, show_life: Callable[[], None] = lambda: None
) -> list[Lease]:
    """Become the executor, taking over what a dead one held, and return those leases.

    Raises Refused while another is alive: at once on its own host, elsewhere after `patience_s`. Calls `show_life`
    while it waits.
    """
    process, host = psutil.Process(), socket.gethostname()
    deadline = time.monotonic() + patience_s
    seen: tuple[LeaderLease | None, float] = (None, 0.0)
    while True:
        seen_epochs = _target_epochs(services)
        with services.records.write() as transaction:
            former = next(iter(transaction.find(LeaderLease)), None)
            if former != seen[0]:
                seen = former, time.monotonic()
            if former is None or not _lives(former, unchanged_s=time.monotonic() - seen[1]):
                boot_id, beat_s = boot_clock()
                now = services.now()
                leader = LeaderLease(
                    "executor", services.executor, process.pid, process.create_time(), now, host, None, boot_id, beat_s
                )
                return leases.take_over(transaction, leader, now, seen=seen_epochs)
        if former.host == host or time.monotonic() > deadline:
            raise Refused(
                f"an executor runs already as process {former.pid} of {former.host}",
                next='one is enough; "slipway down" stops it',
            )
        show_life()
        time.sleep(_LOOK_S)


def renew_leader_lease(services: Services) -> None:
    """Show that this executor lives; raise LostLease when another has taken its leader lease."""
    with services.records.write() as transaction:
        leases.confirm_leader(services, within=transaction)
        boot_id, beat_s = boot_clock()
        leader = transaction.get(LeaderLease, "executor")
        transaction.change(leader, heartbeat_at=services.now(), boot_id=boot_id, beat_s=beat_s)


def give_up_leader_lease(services: Services) -> None:
    """Give the leader lease up, so that a successor begins at once; another's leader lease is left alone."""
    with services.records.write() as transaction:
        for leader in transaction.find(LeaderLease, executor=services.executor):
            transaction.change(leader, left_at=services.now())


def is_alive(leader: LeaderLease, now: str) -> bool:
    """Whether an executor has shown itself lately and, where that can be seen, its process still runs."""
    return leader.left_at is None and silent_s(leader, now) < LEADER_LOST_S and _may_run(leader)


def silent_s(leader: LeaderLease, now: str) -> float:
    """Return the seconds since an executor's last sign of life: of another machine's, by the clocks on the wall."""
    own_s = _silent_here_s(leader)
    if own_s is not None:
        return own_s
    return (datetime.fromisoformat(now) - datetime.fromisoformat(leader.heartbeat_at)).total_seconds()


def boot_clock() -> tuple[str, float]:
    """Return which start of this machine it is, and the seconds since, for all its containers the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
    except OSError:
        # Where there is no such file, the monotonic clock counts from the start.
        return f"{socket.gethostname()}:boot", time.monotonic()


def _lives(leader: LeaderLease, *, unchanged_s: float) -> bool:
    """Whether a leader may still act; of another machine, nothing counts but that its lease has not changed so long."""
    if leader.left_at or not _may_run(leader):
        return False
    own_s = _silent_here_s(leader)
    return (unchanged_s if own_s is None else own_s) < LEADER_LOST_S


def _silent_here_s(leader: LeaderLease) -> float | None:
    """Return the seconds since a sign of life by this machine's clock, None for one that was given by another clock."""
    boot_id, at_s = boot_clock()
    return at_s - leader.beat_s if leader.beat_s is not None and leader.boot_id == boot_id else None


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
    return leader.host != socket.gethostname() or _runs(leader)


def _runs(leader: LeaderLease) -> bool:
    try:
        process = psutil.Process(leader.pid)
        moves = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        return moves and abs(process.create_time() - leader.process_started) < 1
    except psutil.NoSuchProcess:
        return False
