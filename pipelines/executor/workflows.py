"""The durable workflows, one for each kind of work that takes a lease: how they begin, and what is told of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Lease, Promotion, Rollback
from pipelines.errors import DatabaseUnavailable
from pipelines.evaluation.ending import cancelled
from pipelines.evaluation.evaluate import evaluate
from pipelines.governance.work import move
from pipelines.ports import Step, WorkflowEngine
from pipelines.releases.leased import Leased, stop_work
from pipelines.releases.promote import release_promotion
from pipelines.releases.rollback import roll_back
from pipelines.releases.services import Services
from pipelines.releases.waiting import keep_trying

Start = Callable[[str], None]

# The engine's journal knows each by the name of its function.
_BODIES: Mapping[type[Leased], Callable[[Services, str, Step], None]] = {
    Evaluation: evaluate,
    Promotion: release_promotion,
    Rollback: roll_back,
}


def register_workflows(services: Services, engine: WorkflowEngine) -> dict[type[Leased], Start]:
    """Register the workflows and return how to start each by the id of its work."""
    return {kind: _register(services, engine, body) for kind, body in _BODIES.items()}


def begin(services: Services, work: Leased, start: Start) -> None:
    """Start a workflow under the work's own id: starting it twice is starting it once."""
    start(work.id)
    with services.records.write() as transaction:
        current = transaction.get(type(work), work.id)
        # The workflow may have ended by now, or have written this itself.
        if current.state is work.state:
            move(transaction, current, RunState.RUNNING)


def end_cancelled(services: Services, beat: Callable[[], None]) -> None:
    """Stop evaluations that were cancelled before they began; call `beat` before each.

    One that has begun stops by itself.
    """
    for evaluation in services.records.find(Evaluation, state=RunState.REQUESTED):
        beat()
        # Its thread may be at work before that is written down, and would lose its lease.
        begun = services.records.find(Lease, holder=evaluation.id)
        if evaluation.cancel_asked_by and not begun:
            stop_work(services, evaluation, cancelled(evaluation, evaluation.cancel_asked_by))


def _register(services: Services, engine: WorkflowEngine, body: Callable[[Services, str, Step], None]) -> Start:
    name = body.__name__
    services = replace(services, works_on=engine.works_on)

    def run(work_id: str, step: Step) -> None:
        def told_step(name: str, action: Callable[[], Any]) -> Any:
            def attempt() -> Any:
                services.note(work_id, name, "")
                return action()

            # A step bears repetition: a database that is away for a moment costs time, and undoes nothing.
            return step(name, lambda: keep_trying(services, attempt, away=DatabaseUnavailable))

        body(services, work_id, told_step)

    engine.register(name, run)
    return lambda work_id: engine.start(name, work_id)
