"""The executor: the one process that carries commands out, on no port, one at a time.

It alone moves aliases and starts releases. Killed at any point, the next one goes on where it stopped.
"""

import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.domain.policy import Policy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import (
    Evaluation,
    PolicyChange,
    Progress,
    Promotion,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.errors import LostLease, Refused, SlipwayError
from pipelines.evaluation.evaluate import evaluate
from pipelines.governance.standing import expiry
from pipelines.releases.leader import give_up_leader_lease, renew_leader_lease, take_leader_lease
from pipelines.releases.leased import Work, stop_work
from pipelines.releases.maintenance import move_maintenance, unfinished
from pipelines.releases.promote import release_promotion
from pipelines.releases.reconcile import observe_environment
from pipelines.releases.rollback import roll_back
from pipelines.releases.rollout import write_lifecycles
from pipelines.releases.services import Services
from pipelines.settings.settings import Settings, model_name

# Bumped by hand when a change of a workflow's steps could not resume runs begun by the old code.
WORKFLOW_VERSION = "1"

POLL_S = 0.1
HEARTBEAT_S = 1.0
OBSERVE_S = 2.0

log = logging.getLogger("slipway.executor")


class JsonSerializer:
    """Keeps the workflow journal in JSON, so that nothing in it is ever unpickled."""

    def name(self) -> str:
        """Return the name stored beside each value."""
        return "slipway_json"

    def serialize(self, data: Any) -> str:
        """Return JSON; the engine's own exceptions become their text."""
        return json.dumps(data, default=str)

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of `serialize`'s text."""
        return json.loads(serialized_data)


def serve(services: Services, settings: Settings, stop: threading.Event) -> None:
    """Run until `stop` is set; raise Refused while another executor is alive."""
    from dbos import DBOS

    settings.sign_of_life.touch()
    recovered = take_leader_lease(services)
    settings.sign_of_life.touch()
    for holder in sorted({lease.holder for lease in recovered if lease.holder}):
        _note_recovery(services, holder)
    _clear_loads(services)
    runs = _register_workflows(services)
    DBOS(config=engine_config(settings.workflows_url))
    DBOS.launch()
    model = model_name(settings.project)
    watcher = threading.Thread(target=_watch, args=(services, model, stop), daemon=True)
    watcher.start()
    log.info("executor %s is ready", services.executor)
    beat = 0.0
    while not stop.wait(POLL_S):
        try:
            if time.monotonic() - beat > HEARTBEAT_S:
                # Before the leader lease: a database that is away is no fault of this process.
                settings.sign_of_life.touch()
                renew_leader_lease(services)
                end_abandoned(services, _has_ended)
                beat = time.monotonic()
            carry_out(services, runs)
        except LostLease:
            raise
        except SlipwayError as error:
            # A full disk or a locked database passes: what was asked for stays asked for.
            log.error("this round was cut short: %s", error.message)
    DBOS.destroy()
    give_up_leader_lease(services)


def _has_ended(work_id: str) -> bool:
    """Whether the engine has a workflow of that id that will do nothing more."""
    from dbos import DBOS

    status = DBOS.get_workflow_status(work_id)
    return status is not None and status.status not in ("PENDING", "ENQUEUED", "DELAYED")


def end_abandoned(services: Services, has_ended: Callable[[str], bool]) -> None:
    """End work whose workflow ended without recording so.

    That takes a database that stayed away longer than every retry; without this the lease would be held for ever.
    """
    kinds: tuple[type[Work], ...] = (Evaluation, Promotion, Rollback)
    for kind in kinds:
        for work in services.records.find(kind, state=RunState.RUNNING):
            if not has_ended(work.id):
                continue
            error = {"code": "internal", "message": f"{work.id} ended without an outcome"}
            error["next"] = 'run "slipway doctor", then ask again'
            stop_work(services, work, error)


def carry_out(services: Services, start: Mapping[type, Callable[[str], None]]) -> None:
    """Do one round: put policies in force, move promotions and maintenance on, start the work that may start."""
    records = services.records
    for change in records.find(PolicyChange, state=RunState.REQUESTED):
        _put_in_force(services, change)
    for rollback in records.find(Rollback, state=RunState.REQUESTED):
        _begin(services, rollback, start[Rollback])
    _move_promotions(services)
    for promotion in records.find(Promotion, state=RunState.APPROVED):
        _begin(services, promotion, start[Promotion])
    move_maintenance(services)
    # Evaluations queue anyway: one after the other they would keep maintenance out for ever.
    if not records.find(Evaluation, state=RunState.RUNNING) and not unfinished(records):
        for evaluation in records.find(Evaluation, state=RunState.REQUESTED)[:1]:
            _begin(services, evaluation, start[Evaluation])


def _begin(services: Services, work: Work, start: Callable[[str], None]) -> None:
    """Start a workflow under the work's own id: starting it twice is starting it once."""
    start(work.id)
    with services.records.write() as transaction:
        current = transaction.get(type(work), work.id)
        if not current.state.final:
            transaction.change(current, state=RunState.RUNNING)


def _put_in_force(services: Services, change: PolicyChange) -> None:
    Policy.parse(change.body)
    with services.records.write() as transaction:
        transaction.change(change, state=RunState.DONE, ended_at=services.now())
        transaction.audit("executor", "policy", "outcome", subject=change.id, detail={"digest": change.digest})


def _move_promotions(services: Services) -> None:
    """Let promotions wait for people once measured, and expire those nobody decided on."""
    for promotion in services.records.find(Promotion, state=RunState.REQUESTED):
        evaluation = services.records.get(Evaluation, promotion.evaluation_id)
        if evaluation.state is RunState.DONE:
            until = expiry(services.policy(promotion.model), services.now())
            _move(services, promotion, state=RunState.WAITING, expires_at=until)
    for promotion in services.records.find(Promotion, state=RunState.WAITING):
        if promotion.expires_at and promotion.expires_at < services.now():
            error = {"code": "approval_expired", "message": f"nobody decided on {promotion.id} in time"}
            error["next"] = f'ask again: "make promote VERSION={promotion.version}"'
            _move(services, promotion, state=RunState.STOPPED, error=error, ended_at=services.now())


def _move(services: Services, promotion: Promotion, **values: object) -> None:
    """Change a promotion unless somebody else has moved it meanwhile."""
    with services.records.write() as transaction:
        current = transaction.get(Promotion, promotion.id)
        if current.state is promotion.state:
            transaction.change(current, **values)
            detail = {"state": str(values["state"]), "error": values.get("error")}
            transaction.audit("executor", "promotion.move", "outcome", subject=promotion.id, detail=detail)


def _watch(services: Services, model: str, stop: threading.Event) -> None:
    """Look at both environments and mend lifecycle tags until `stop`; what fails is logged and repeated."""
    while not stop.wait(OBSERVE_S):
        try:
            for environment in Environment:
                observe_environment(services, model, environment)
            write_lifecycles(services, model)
        except Exception as error:
            log.warning("can't look: %s", error)


def _register_workflows(services: Services) -> dict[type, Callable[[str], None]]:
    """Register the durable workflows and return how to start each by the id of its work."""
    from dbos import DBOS, SetWorkflowID

    starters: dict[type, Callable[[str], None]] = {}
    bodies: dict[type, Callable[..., None]] = {
        Evaluation: evaluate,
        Promotion: release_promotion,
        Rollback: roll_back,
    }
    for kind, body in bodies.items():

        def run(work_id: str, body: Callable[..., None] = body) -> None:
            body(services, work_id, durable_step(services, work_id))

        workflow = DBOS.workflow(name=body.__name__)(run)

        def start(work_id: str, workflow: Callable[..., None] = workflow) -> None:
            with SetWorkflowID(work_id):
                DBOS.start_workflow(workflow, work_id)

        starters[kind] = start
    return starters


def durable_step(services: Services, subject: str) -> Callable[[str, Callable[[], Any]], Any]:
    """Return the ports.Step of one workflow: journalled, shown as progress, refusals replayed as such."""
    from dbos import DBOS

    def attempt(name: str, action: Callable[[], Any]) -> dict[str, Any]:
        try:
            services.note(subject, name, "")
            return {"answer": action()}
        except LostLease as lost:
            log.critical("%s; this executor stops", lost.message)
            os._exit(Refused.exit_code)
        except SlipwayError as refusal:
            return {"refused": refusal.as_dict()}
        except Exception as bug:
            log.error("bug in step %r of %s:\n%s", name, subject, traceback.format_exc())
            message = f"{type(bug).__name__} in step {name!r}: {bug}"
            hint = "report it with the executor's log"
            return {"refused": {"code": "internal", "message": message, "next": hint}}

    def step(name: str, action: Callable[[], Any]) -> Any:
        ended = DBOS.run_step({"name": name}, attempt, name, action)
        if "refused" in ended:
            raise SlipwayError.from_dict(ended["refused"])
        return ended["answer"]

    return step


def _clear_loads(services: Services) -> None:
    """End the load runs of an executor that died; the next run does it again, so a refusal costs nothing."""
    try:
        services.loads.remove_left()
    except SlipwayError as error:
        log.error("load runs may be left: %s", error.message)


def _note_recovery(services: Services, holder: str) -> None:
    steps = services.records.find(Progress, subject=holder)
    interrupted = steps[-1].step.split(" ")[0] if steps else "its start"
    services.note(holder, "recovered", f"interrupted at {interrupted}, recovered")


def engine_config(journal_url: str) -> Any:
    """Return the workflow engine's configuration, with its journal in SQLite or in a PostgreSQL database it owns."""
    return {
        "name": "slipway",
        "system_database_url": journal_url,
        "application_version": WORKFLOW_VERSION,
        "executor_id": "slipway-executor",
        "serializer": JsonSerializer(),
        "log_level": "WARNING",
        "enable_otlp": False,
    }
