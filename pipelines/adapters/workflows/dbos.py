"""Durable workflows on DBOS: each step's answer is journalled, so that a killed process's successor goes on after it.

The journal holds JSON only: nothing in it is ever unpickled.
"""

import json
import logging
import os
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID, WorkflowHandle
from sqlalchemy.pool import PoolProxiedConnection

from pipelines.adapters.database.lost_files import damaged
from pipelines.disk import as_full
from pipelines.errors import DatabaseUnavailable, LostLease, Refused, SlipwayError, UsageError
from pipelines.ports import Step

# Bumped by hand when a change of a workflow's steps could not resume runs begun by the old code.
WORKFLOW_VERSION = "3"

# So long a workflow waits for its journal to come back; then its thread ends, and the executor undoes the work.
JOURNAL_S = 60.0
# So long the start waits for a lock; DBOS would wait for half a minute, in which nothing shows that this process lives.
LOCKED_S = 1.0
# So long after the start what was cut off may take to begin again.
RECOVERY_S = 30.0

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
        self._threads: dict[str, Future[None]] = {}
        self._running: set[str] = set()
        self._begun: set[str] = set()
        self._cut_off: set[str] = set()
        self._launched_at: float | None = None
        self._journal_url = journal_url

    def register(self, name: str, body: Callable[[str, Step], None]) -> None:
        """Name what a workflow does, before `launch`."""

        def run(work_id: str) -> None:
            self._running.add(work_id)
            self._begun.add(work_id)
            try:
                self._rest_when_recovered()
                body(work_id, durable_step(work_id))
            finally:
                self._running.discard(work_id)

        self._workflows[name] = DBOS.workflow(name=name)(run)

    def launch(self) -> None:
        """Begin, and go on with what was cut off, not with what other code began; raise UsageError for newer work.

        A journal whose file is damaged is refused by UsageError as well. What raised DatabaseUnavailable may be called
        again.
        """
        _refuse_locked(sa.make_url(self._journal_url))
        with _journal():
            self._engine = DBOS(config=engine_config(self._journal_url))
            try:
                DBOS.launch()
            except BaseException:
                # It takes itself for launched, and would do nothing the next time.
                DBOS.destroy()
                raise
            Patience(JOURNAL_S).watch(self._engine._sys_db.engine)
            unfinished = DBOS.list_workflows(status=list(_UNFINISHED), load_input=False, load_output=False)
        versions = {each.workflow_id: each.app_version or "" for each in unfinished}
        self._refuse_newer(versions)
        for work_id, version in versions.items():
            if version != WORKFLOW_VERSION:
                # Its steps are other ones than today's: the executor finds that nobody works on it, and undoes it.
                log.warning("%s was begun by workflow version %s and is not gone on with", work_id, version)
                self.abandon(work_id)
        self._cut_off = {work_id for work_id, version in versions.items() if version == WORKFLOW_VERSION}
        self._launched_at = time.monotonic()
        self._rest_when_recovered()

    def _refuse_newer(self, versions: Mapping[str, str]) -> None:
        """End and raise UsageError when a newer Slipway began work that has not ended."""
        for work_id, version in versions.items():
            if version.isdecimal() and int(version) > int(WORKFLOW_VERSION):
                self.close()
                raise UsageError(
                    f"{work_id} was begun by workflow version {version}, this Slipway has version {WORKFLOW_VERSION}",
                    next="let the newer Slipway that began it end it, or restore a backup of before",
                )

    def _rest_when_recovered(self) -> None:
        """Stop the engine's threads for queued, delayed and scheduled work, which ask the journal every second.

        Nothing here is any of these, but what was cut off goes on through a queue: that comes first.
        """
        if self._launched_at is not None and self._cut_off <= self._begun:
            for stop in (*self._engine.background_thread_stop_events, self._engine._background_jobs_stop_event):
                stop.set()

    def start(self, name: str, work_id: str) -> None:
        """Start a workflow under its work's id: starting it twice is starting it once."""
        with _journal(), SetWorkflowID(work_id):
            handle: WorkflowHandle[None] = DBOS.start_workflow(self._workflows[name], work_id)
        self._threads = {id: thread for id, thread in self._threads.items() if not thread.done()}
        # Only a workflow that begins here has one.
        thread = getattr(handle, "future", None)
        if thread is not None:
            self._threads[work_id] = thread

    def works_on(self, work_id: str) -> bool:
        """Whether a thread of this process carries that workflow out, or is about to."""
        thread = self._threads.get(work_id)
        if work_id in self._running or (thread is not None and not thread.done()):
            return True
        begins = work_id in self._cut_off and work_id not in self._begun
        return begins and time.monotonic() - (self._launched_at or 0.0) < RECOVERY_S

    def abandon(self, work_id: str) -> None:
        """See to it that a workflow that nobody works on is never gone on with."""
        with _journal():
            DBOS.cancel_workflow(work_id)

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


class Patience:
    """Has DBOS wait for a journal that is away or full, for `limit_s` at most since a thread could last write to it.

    DBOS by itself waits for ever for some of these, and gives the workflow up at once for others, such as a disk that
    is full or a name that does not resolve while a database is moved.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._failing = threading.local()
        self._hurried = threading.current_thread()

    def watch(self, engine: sa.Engine) -> None:
        """Judge the failures of a journal's engine from now on."""
        sa.event.listen(engine, "handle_error", self._judge)
        commit = engine.dialect.do_commit

        def committed(dbapi_connection: PoolProxiedConnection) -> None:
            commit(dbapi_connection)
            # Only now: a disk may be full for the commit alone. SQLAlchemy's own event comes before it.
            self._failing.since = None

        engine.dialect.do_commit = committed  # type: ignore[method-assign]

    def _judge(self, context: sa.engine.ExceptionContext) -> None:
        # Who starts workflows has more to do, and comes back to it.
        hurried = threading.current_thread() is self._hurried
        if hurried or not isinstance(context.sqlalchemy_exception, sa.exc.OperationalError):
            return
        now = time.monotonic()
        since = getattr(self._failing, "since", None) or now
        self._failing.since = since
        # What is called a lost connection is tried again.
        context.is_disconnect = now - since < self._limit_s


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
            if full := as_full(bug):
                log.error("step %r of %s: %s", name, subject, full)
                return {"refused": full.as_dict()}
            log.error("bug in step %r of %s:\n%s", name, subject, traceback.format_exc())
            message = f"{type(bug).__name__} in step {name!r}: {bug}"
            return {"refused": SlipwayError(message, next="report it with the executor's log").as_dict()}

    def step(name: str, action: Callable[[], Any]) -> Any:
        ended = DBOS.run_step({"name": name}, attempt, name, action)
        if "refused" in ended:
            raise SlipwayError.from_dict(ended["refused"])
        return ended["answer"]

    return step


def _refuse_locked(journal: sa.URL) -> None:
    """Raise DatabaseUnavailable at once for a journal in SQLite that somebody has locked, UsageError for a damaged one.

    It gets a write-ahead log: without one, who is frozen while it reads would keep everybody from writing.
    """
    if journal.get_backend_name() != "sqlite":
        return
    file = Path(journal.database or "")
    try:
        with closing(sqlite3.connect(file, timeout=LOCKED_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        raise _unusable(error) from error
    except sqlite3.DatabaseError as error:
        raise damaged(file, error) from error


@contextmanager
def _journal() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the journal of workflows can't be used: {str(error.__cause__ or error)[:200]}",
        next="check free disk space and the database; what was asked for stays asked for",
    )


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
