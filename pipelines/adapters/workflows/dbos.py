"""Durable workflows on DBOS: each step's answer is journalled, so that a killed process's successor goes on after it.

The journal holds JSON only: nothing in it is ever unpickled.
"""

import json
import logging
import os
import traceback
from collections.abc import Callable
from typing import Any

from dbos import DBOS, SetWorkflowID

from pipelines.errors import LostLease, Refused, SlipwayError
from pipelines.ports import Step

# Bumped by hand when a change of a workflow's steps could not resume runs begun by the old code.
WORKFLOW_VERSION = "1"

_UNFINISHED = ("PENDING", "ENQUEUED", "DELAYED")
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

log = logging.getLogger("slipway.workflows")


class JsonSerializer:
    """Keeps the workflow journal in JSON."""

    def name(self) -> str:
        """Return the name stored beside each value."""
        return "slipway_json"

    def serialize(self, data: Any) -> str:
        """Return JSON; the engine's own exceptions become their text."""
        return json.dumps(data, default=str)

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of `serialize`'s text."""
        return json.loads(serialized_data)


class DbosEngine:
    """Fills ports.WorkflowEngine, with its journal in SQLite or in a PostgreSQL database that it owns.

    One a process: DBOS keeps what is registered in the process itself.
    """

    def __init__(self, journal_url: str) -> None:
        self._workflows: dict[str, Callable[[str], None]] = {}
        self._begun: set[str] = set()
        self._cut_off: set[str] = set()
        self._launched = False
        self._engine = DBOS(config=engine_config(journal_url))

    def register(self, name: str, body: Callable[[str, Step], None]) -> None:
        """Name what a workflow does, before `launch`."""

        def run(work_id: str) -> None:
            self._begun.add(work_id)
            self._rest_when_recovered()
            body(work_id, durable_step(work_id))

        self._workflows[name] = DBOS.workflow(name=name)(run)

    def launch(self) -> None:
        """Begin, and go on with what was cut off."""
        DBOS.launch()
        unfinished = DBOS.list_workflows(status=list(_UNFINISHED), load_input=False, load_output=False)
        self._cut_off = {each.workflow_id for each in unfinished}
        self._launched = True
        self._rest_when_recovered()

    def _rest_when_recovered(self) -> None:
        """Stop the engine's threads for queued, delayed and scheduled work, which ask the journal every second.

        Nothing here is any of these, but what was cut off goes on through a queue: that comes first.
        """
        if self._launched and self._cut_off <= self._begun:
            for stop in (*self._engine.background_thread_stop_events, self._engine._background_jobs_stop_event):
                stop.set()

    def start(self, name: str, work_id: str) -> None:
        """Start a workflow under its work's id: starting it twice is starting it once."""
        with SetWorkflowID(work_id):
            DBOS.start_workflow(self._workflows[name], work_id)

    def has_ended(self, work_id: str) -> bool:
        """Whether there is a workflow of that id that will do nothing more."""
        status = DBOS.get_workflow_status(work_id)
        return status is not None and status.status not in _UNFINISHED

    def ended(self, *, before: str, limit: int) -> list[str]:
        """Return the ids of work whose workflow ended before a time, the oldest first."""
        found = DBOS.list_workflows(
            status=list(_ENDED), completed_before=before, limit=limit, load_input=False, load_output=False
        )
        return [each.workflow_id for each in found]

    def forget(self, work_ids: list[str]) -> None:
        """Remove from the journal what it has of these."""
        DBOS.delete_workflows(work_ids)

    def close(self) -> None:
        """End; what is under way goes on with the next launch."""
        DBOS.destroy()


def durable_step(subject: str) -> Step:
    """Return the ports.Step of one workflow: journalled, a refusal as well, which is replayed as such.

    Whoever has lost the lease may write nothing any more, not even that: its process ends.
    """

    def attempt(name: str, action: Callable[[], Any]) -> dict[str, Any]:
        try:
            return {"answer": action()}
        except LostLease as lost:
            log.critical("%s; this executor stops", lost.message)
            os._exit(Refused.exit_code)
        except SlipwayError as refusal:
            return {"refused": refusal.as_dict()}
        except Exception as bug:
            log.error("bug in step %r of %s:\n%s", name, subject, traceback.format_exc())
            message = f"{type(bug).__name__} in step {name!r}: {bug}"
            return {"refused": SlipwayError(message, next="report it with the executor's log").as_dict()}

    def step(name: str, action: Callable[[], Any]) -> Any:
        ended = DBOS.run_step({"name": name}, attempt, name, action)
        if "refused" in ended:
            raise SlipwayError.from_dict(ended["refused"])
        return ended["answer"]

    return step


def engine_config(journal_url: str) -> Any:
    """Return DBOS's configuration."""
    return {
        "name": "slipway",
        "system_database_url": journal_url,
        "application_version": WORKFLOW_VERSION,
        "executor_id": "slipway-executor",
        "serializer": JsonSerializer(),
        "log_level": "WARNING",
        "enable_otlp": False,
    }
