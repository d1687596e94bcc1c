"""The executor's seat: one process holds it, and shows by a heartbeat that it lives."""

from datetime import datetime

import psutil

from pipelines.domain.records import ExecutorSeat, Lease
from pipelines.errors import LostLease, Refused
from pipelines.workflows import leases
from pipelines.workflows.services import Services

SEAT_LOST_S = 10.0


def take_seat(services: Services) -> list[Lease]:
    """Become the executor, taking over what a dead one held; raise Refused while one is alive."""
    process = psutil.Process()
    seat = ExecutorSeat("executor", services.executor, process.pid, process.create_time(), services.now())
    with services.records.write() as transaction:
        for other in transaction.find(ExecutorSeat):
            if is_alive(other, services.now()):
                raise Refused(
                    f"an executor runs already as process {other.pid}",
                    next='one is enough; "slipway down" stops it',
                )
        return leases.take_over(transaction, seat, services.now())


def keep_seat(services: Services) -> None:
    """Show that this executor lives; raise LostLease when another has taken its seat."""
    with services.records.write() as transaction:
        seat = transaction.get(ExecutorSeat, "executor")
        if seat.executor != services.executor:
            raise LostLease(f"executor {seat.executor} has taken over", next="nothing: it goes on")
        transaction.change(seat, heartbeat_at=services.now())


def is_alive(seat: ExecutorSeat, now: str) -> bool:
    """Whether an executor's process still runs, is not stopped, and has shown itself lately."""
    silent = (datetime.fromisoformat(now) - datetime.fromisoformat(seat.heartbeat_at)).total_seconds()
    try:
        process = psutil.Process(seat.pid)
        runs = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        same = runs and abs(process.create_time() - seat.process_started) < 1
    except psutil.NoSuchProcess:
        same = False
    return same and silent < SEAT_LOST_S
