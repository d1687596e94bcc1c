"""The executor: the one process that carries commands out, on no port, one at a time.

It alone moves aliases and starts releases. Killed at any point, the next one goes on where it stopped.
It sleeps until events are committed or something falls due, and looks besides now and then, as a signal can be lost.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from pipelines.domain.policy import Policy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, PolicyChange, Promotion, Rollback
from pipelines.errors import DatabaseUnavailable, LostLease, PolicyInvalid, SlipwayError
from pipelines.evaluation.gates.code import gates_digest
from pipelines.executor import promotions
from pipelines.executor.added_sets import take_sets_in
from pipelines.executor.gates import put_gates_in_force
from pipelines.executor.live_drift import watch_drift
from pipelines.executor.recovery import Recovery
from pipelines.executor.requests import read_requests
from pipelines.executor.retention import Keeper, tend
from pipelines.executor.steady_clock import SteadyClock
from pipelines.executor.watch import watch
from pipelines.executor.workflows import Start, begin, end_cancelled, register_workflows
from pipelines.governance.progress import progress_of
from pipelines.governance.subscribers import Subscriber, Subscriptions
from pipelines.governance.work import move, stop
from pipelines.ports import Listener, WorkflowEngine
from pipelines.releases.late import RECOVERED
from pipelines.releases.leader import (
    HEARTBEAT_S,
    Succession,
    end_frozen,
    give_up_leader_lease,
    renew_leader_lease,
    take_leader_lease,
)
from pipelines.releases.leased import Leased
from pipelines.releases.maintenance import left_s, move_maintenance, unfinished
from pipelines.releases.services import Services

# So late a lost signal may be made up for, and a round that was cut short is tried again.
LOOK_S = 5.0
RETRY_S = 0.5

log = logging.getLogger("slipway.executor")


def serve(
    services: Services,
    engine: WorkflowEngine,
    *,
    subscribers: Mapping[str, Subscriber],
    show_life: Callable[[], None],
    stop: threading.Event,
    chores: Callable[[], None] = lambda: None,
) -> None:
    """Run until `stop` is set, and tell `subscribers`, by name, of events; raise Refused while another is alive.

    `chores` is called every few seconds.
    """
    _show(show_life)
    succession = take_leader_lease(services, show_life=lambda: _show(show_life))
    executor = Executor(services, engine, subscribers, lambda: _show(show_life), succession)
    executor.launch(stop)
    for beside in (watch, read_requests, watch_drift, take_sets_in):
        threading.Thread(target=beside, args=(services, stop), daemon=True).start()
    clock = SteadyClock(services.now, known=succession.former.heartbeat_at if succession.former else None)
    keeper = partial(Keeper, services, engine, readers=tuple(subscribers), clock=clock.read)
    threading.Thread(target=tend, args=(services.records, keeper, chores, stop), daemon=True).start()
    log.info("executor %s is ready", services.executor)
    executor.run(stop)
    engine.close()
    give_up_leader_lease(services)


class Executor:
    """The rounds of one executor, each as soon as there is a reason for it."""

    def __init__(
        self,
        services: Services,
        engine: WorkflowEngine,
        subscribers: Mapping[str, Subscriber],
        show_life: Callable[[], None],
        succession: Succession,
    ) -> None:
        self._recovery = Recovery(services, engine, succession)
        self._former = succession.former
        self._subscriptions, self._subscribers = Subscriptions(services.records), subscribers
        self._recovered = sorted({lease.holder for lease in succession.leases if lease.holder})
        self._listener: Listener | None = None
        self._services = services
        self._engine = engine
        self._show_life = show_life
        self._starts = register_workflows(services, engine)
        self._beat_at = self._round_at = 0.0

    def launch(self, stop: threading.Event) -> None:
        """Go on with what was cut off, as soon as disk, database and journal let it: they may be full, or locked.

        What a former executor left is cleared first, or it would be taken for this one's; meanwhile this one shows
        itself. Raises LostLease, and UsageError for what newer code has begun.
        """
        clearing = threading.Thread(target=_clear_left, args=(self._services,), daemon=True)
        clearing.start()
        told = ""
        while not stop.is_set():
            try:
                self._beat()
                clearing.join(RETRY_S)
                if clearing.is_alive():
                    continue
                self._prepare()
                self._engine.launch()
                return
            except (DatabaseUnavailable, OSError) as error:
                waits = f"nothing is gone on with yet: {error}{end_frozen(self._former, self._services.now())}"
                if waits != told:
                    log.error("%s", waits)
                told = waits
            stop.wait(RETRY_S)

    def _prepare(self) -> None:
        """Begin to listen, tell what was cut off, and by which gates; what failed half-way may be called again."""
        self._listener = self._listener or self._services.records.listen()
        put_gates_in_force(self._services, gates_digest())
        for name, subscriber in self._subscribers.items():
            self._subscriptions.subscribe(name, subscriber)
        while self._recovered:
            _note_recovery(self._services, self._recovered[0])
            del self._recovered[0]

    def run(self, stop: threading.Event) -> None:
        """Do rounds after `launch` until `stop` is set; raise LostLease when another executor has taken over."""
        listener = self._listener
        if listener is None:
            # It was stopped before it could begin.
            return

        def wake_at_stop() -> None:
            stop.wait()
            listener.wake()

        threading.Thread(target=wake_at_stop, daemon=True).start()
        while not stop.is_set():
            try:
                self._beat()
                self._round()
            except LostLease:
                raise
            except SlipwayError as error:
                # A full disk or a locked database passes: what was asked for stays asked for.
                log.error("this round was cut short: %s", error.message)
                self._round_at = time.monotonic() + RETRY_S
            except Exception:
                # A bug in one piece of work must not end all others.
                log.exception("this round was cut short by a bug")
                self._round_at = time.monotonic() + LOOK_S
            if listener.wait(max(0.0, min(self._beat_at, self._round_at) - time.monotonic())):
                self._round_at = 0.0
        listener.close()

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + HEARTBEAT_S
        # Before the leader lease: a database that is away is no fault of this process.
        self._show_life()
        renew_leader_lease(self._services)

    def _round(self) -> None:
        if time.monotonic() < self._round_at:
            return
        # What was asked for comes first: it may be the way out of what can't be undone, and undoes what is left itself.
        carry_out(self._services, self._starts, beat=self._beat)
        self._recovery.look()
        self._subscriptions.deliver(beat=self._beat)
        self._round_at = time.monotonic() + min(LOOK_S, due_in_s(self._services))


def carry_out(
    services: Services, start: Mapping[type[Leased], Start], *, beat: Callable[[], None] = lambda: None
) -> None:
    """Do one round: put policies in force, move promotions and maintenance on, start the work that may start.

    What is refused keeps nothing else from being done. `beat` is called before each piece of work: many may take longer
    than an executor may be silent. Raises LostLease, and DatabaseUnavailable.
    """
    parts: tuple[Callable[[], None], ...] = (
        lambda: _put_in_force(services, beat),
        lambda: _begin_all(services, Rollback, RunState.REQUESTED, start[Rollback], beat),
        lambda: promotions.let_wait(services, beat),
        lambda: promotions.expire(services, beat),
        lambda: _begin_all(services, Promotion, RunState.APPROVED, start[Promotion], beat),
        lambda: move_maintenance(services),
        lambda: end_cancelled(services, beat),
        lambda: _begin_next_evaluations(services, start[Evaluation]),
    )
    for part in parts:
        try:
            part()
        except (LostLease, DatabaseUnavailable):
            raise
        except SlipwayError as error:
            log.error("a part of this round was refused: %s", error.message)
        except Exception:
            log.exception("a part of this round was cut short by a bug")


def due_in_s(services: Services) -> float:
    """Return the seconds until an approval or maintenance expires, infinity when none does."""
    now = services.now()
    left = [left_s(change, now) for change in unfinished(services.records)]
    for promotion in services.records.find(Promotion, state=RunState.WAITING):
        if promotion.expires_at:
            until = datetime.fromisoformat(promotion.expires_at) - datetime.fromisoformat(now)
            left.append(until.total_seconds())
    return max(0.0, min(left, default=float("inf"))) + 0.001


def _begin_all(
    services: Services, kind: type[Promotion | Rollback], state: RunState, start: Start, beat: Callable[[], None]
) -> None:
    for work in services.records.find(kind, state=state):
        beat()
        begin(services, work, start)


def _begin_next_evaluations(services: Services, start: Start) -> None:
    """Begin the next evaluation of each model of which none runs; maintenance would never get its turn otherwise."""
    records = services.records
    if unfinished(records):
        return
    busy = {evaluation.model for evaluation in records.find(Evaluation, state=RunState.RUNNING)}
    for evaluation in records.find(Evaluation, state=RunState.REQUESTED):
        if evaluation.model not in busy:
            busy.add(evaluation.model)
            begin(services, evaluation, start)


def _put_in_force(services: Services, beat: Callable[[], None]) -> None:
    for change in services.records.find(PolicyChange, state=RunState.REQUESTED):
        beat()
        detail: dict[str, str] = {"digest": change.digest}
        with services.records.write() as transaction:
            try:
                Policy.read(change.body)
                move(transaction, change, RunState.DONE, ended_at=services.now())
            except PolicyInvalid as refusal:
                # Asked for by other code: it would be refused in every round.
                stop(transaction, change, refusal, at=services.now())
                detail |= refusal.as_dict()
            transaction.audit("executor", "policy", "outcome", subject=change.id, detail=detail)


def _show(show_life: Callable[[], None]) -> None:
    try:
        show_life()
    except OSError as error:
        # A disk that is full is no reason to end.
        log.error("this executor can't show that it lives: %s", error)


def _clear_left(services: Services) -> None:
    """End the load runs and confined jobs of an executor that died; what is refused takes nothing but room."""
    for runner in (services.loads, services.jobs):
        try:
            runner.remove_left()
        except SlipwayError as error:
            log.error("load runs or confined jobs may be left: %s", error.message)


def _note_recovery(services: Services, holder: str) -> None:
    steps = progress_of(services.records, holder)
    interrupted = steps[-1].step.split(" ")[0] if steps else "its start"
    services.note(holder, RECOVERED, f"interrupted at {interrupted}, recovered")
