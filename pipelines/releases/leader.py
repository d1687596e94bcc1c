"""The executor's seat: one process holds it, and shows by a heartbeat that it lives."""

import socket
import time
from datetime import datetime

import psutil

from pipelines.domain.records import ExecutorSeat, Lease
from pipelines.errors import LostLease, Refused
from pipelines.releases import leases
from pipelines.releases.services import Services

SEAT_LOST_S = 10.0
# So long an executor waits for one of another host, whose process it can't see, to leave or to fall silent.
PATIENCE_S = 3 * SEAT_LOST_S
_LOOK_S = 0.2


def take_seat(services: Services, *, patience_s: float = PATIENCE_S) -> list[Lease]:
    """Become the executor, taking over what a dead one held.

    Raises Refused while another is alive: at once on its own host, elsewhere after `patience_s`.
    """
    process, host = psutil.Process(), socket.gethostname()
    deadline = time.monotonic() + patience_s
    while True:
        now = services.now()
        with services.records.write() as transaction:
            living = next((seat for seat in transaction.find(ExecutorSeat) if is_alive(seat, now)), None)
            if living is None:
                seat = ExecutorSeat("executor", services.executor, process.pid, process.create_time(), now, host)
                return leases.take_over(transaction, seat, now)
        if living.host == host or time.monotonic() > deadline:
            raise Refused(
                f"an executor runs already as process {living.pid} of {living.host}",
                next='one is enough; "slipway down" stops it',
            )
        time.sleep(_LOOK_S)


def keep_seat(services: Services) -> None:
    """Show that this executor lives; raise LostLease when another has taken its seat."""
    with services.records.write() as transaction:
        seat = transaction.get(ExecutorSeat, "executor")
        if seat.executor != services.executor:
            raise LostLease(f"executor {seat.executor} has taken over", next="nothing: it goes on")
        transaction.change(seat, heartbeat_at=services.now())


def leave_seat(services: Services) -> None:
    """Give the seat up, so that a successor begins at once; another's seat is left alone."""
    with services.records.write() as transaction:
        for seat in transaction.find(ExecutorSeat, executor=services.executor):
            transaction.change(seat, left_at=services.now())


def is_alive(seat: ExecutorSeat, now: str) -> bool:
    """Whether an executor has shown itself lately and, where that can be seen, its process still runs."""
    silent = (datetime.fromisoformat(now) - datetime.fromisoformat(seat.heartbeat_at)).total_seconds()
    if seat.left_at or silent >= SEAT_LOST_S:
        return False
    # The process ids of another host, or of another container, say nothing here.
    return seat.host != socket.gethostname() or _runs(seat)


def _runs(seat: ExecutorSeat) -> bool:
    try:
        process = psutil.Process(seat.pid)
        moves = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        return moves and abs(process.create_time() - seat.process_started) < 1
    except psutil.NoSuchProcess:
        return False
