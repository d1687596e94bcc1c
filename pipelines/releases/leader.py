"""The executor's leader lease: one process holds it, and shows by a heartbeat that it lives."""

import socket
import time
from datetime import datetime

import psutil

from pipelines.domain.records import LeaderLease, Lease
from pipelines.errors import LostLease, Refused
from pipelines.releases import leases
from pipelines.releases.services import Services

HEARTBEAT_S = 2.0
LEADER_LOST_S = 5 * HEARTBEAT_S
# So long an executor waits for one of another host, whose process it can't see, to leave or to fall silent.
PATIENCE_S = 3 * LEADER_LOST_S
_LOOK_S = 0.2


def take_leader_lease(services: Services, *, patience_s: float = PATIENCE_S) -> list[Lease]:
    """Become the executor, taking over what a dead one held.

    Raises Refused while another is alive: at once on its own host, elsewhere after `patience_s`.
    """
    process, host = psutil.Process(), socket.gethostname()
    deadline = time.monotonic() + patience_s
    while True:
        now = services.now()
        with services.records.write() as transaction:
            living = next((leader for leader in transaction.find(LeaderLease) if is_alive(leader, now)), None)
            if living is None:
                leader = LeaderLease("executor", services.executor, process.pid, process.create_time(), now, host)
                return leases.take_over(transaction, leader, now)
        if living.host == host or time.monotonic() > deadline:
            raise Refused(
                f"an executor runs already as process {living.pid} of {living.host}",
                next='one is enough; "slipway down" stops it',
            )
        time.sleep(_LOOK_S)


def renew_leader_lease(services: Services) -> None:
    """Show that this executor lives; raise LostLease when another has taken its leader lease."""
    with services.records.write() as transaction:
        leader = transaction.get(LeaderLease, "executor")
        if leader.executor != services.executor:
            raise LostLease(f"executor {leader.executor} has taken over", next="nothing to do: it goes on")
        transaction.change(leader, heartbeat_at=services.now())


def give_up_leader_lease(services: Services) -> None:
    """Give the leader lease up, so that a successor begins at once; another's leader lease is left alone."""
    with services.records.write() as transaction:
        for leader in transaction.find(LeaderLease, executor=services.executor):
            transaction.change(leader, left_at=services.now())


def is_alive(leader: LeaderLease, now: str) -> bool:
    """Whether an executor has shown itself lately and, where that can be seen, its process still runs."""
    silent = (datetime.fromisoformat(now) - datetime.fromisoformat(leader.heartbeat_at)).total_seconds()
    if leader.left_at or silent >= LEADER_LOST_S:
        return False
    # The process ids of another host, or of another container, say nothing here.
    return leader.host != socket.gethostname() or _runs(leader)


def _runs(leader: LeaderLease) -> bool:
    try:
        process = psutil.Process(leader.pid)
        moves = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        return moves and abs(process.create_time() - leader.process_started) < 1
    except psutil.NoSuchProcess:
        return False
