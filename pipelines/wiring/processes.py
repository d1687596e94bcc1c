"""Builds what the processes of an installation work with: the executor's services and the API's state."""

import logging
import os
import signal
from collections.abc import Callable, Mapping

from pipelines.adapters.database.records import SqlRecords, now
from pipelines.adapters.http_probe import HttpProbe
from pipelines.api.state import ApiState
from pipelines.errors import OlderTables, UsageError
from pipelines.governance.notifications import notifying
from pipelines.governance.subscribers import Subscriber
from pipelines.ports import WorkflowEngine
from pipelines.releases.maintenance import under_way
from pipelines.releases.services import Services
from pipelines.settings.models import model_name
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import read_tokens
from pipelines.wiring.patience import wait_out
from pipelines.wiring.stores import open_bundles, open_checkpoints, open_records, open_registry, open_versions
from pipelines.wiring.targets import wiring_of

# A home carries this file only when the tests made it.
TEST_MARK = ".made-by-tests"
# So long API and executor wait for the tables; the start period of the API's health check has to be longer.
TABLES_S = 120.0
TABLES_POLL_S = 0.5

log = logging.getLogger(__name__)


def open_api_state(settings: Settings) -> ApiState:
    """Open what the API's routes work with."""
    return ApiState(
        records=await_tables(lambda: open_records(settings)),
        checkpoints=open_checkpoints(settings),
        versions=open_versions(settings),
        model=model_name(settings.project),
        tokens=read_tokens(settings.tokens_file),
    )


def await_tables(
    open_now: Callable[[], SqlRecords],
    *,
    show_life: Callable[[], None] = lambda: None,
    patience_s: float = TABLES_S,
    poll_s: float = TABLES_POLL_S,
) -> SqlRecords:
    """Open the records once their owner, at work at the same time, has brought an older Slipway's tables up to date.

    Calls `show_life` meanwhile. Raises OlderTables when they are not after `patience_s`, and at once what else opening
    raises.
    """
    return wait_out(open_now, OlderTables, "them", log=log, patience_s=patience_s, poll_s=poll_s, show_life=show_life)


def build_services(settings: Settings, *, executor: str, environ: Mapping[str, str]) -> Services:
    """Build all that the workflows need, for the executor of that name, once the tables are there."""
    wiring, show_life = wiring_of(settings.target), settings.sign_of_life.touch
    records = await_tables(lambda: open_records(settings), show_life=show_life)
    wiring.take_note_of_restore(settings, records)
    return Services(
        records=records,
        registry=open_registry(settings),
        target=wiring.await_target(settings, show_life),
        loads=wiring.open_loads(settings),
        jobs=wiring.open_jobs(settings),
        probe=HttpProbe(),
        bundles=open_bundles(settings),
        workdir=settings.home,
        executor=executor,
        model=model_name(settings.project),
        now=now,
        fault=planned_fault(settings, environ),
        timing=wiring.timing(),
    )


def open_subscribers() -> dict[str, Subscriber]:
    """Return by name who is told of events: the executor's log, a line for each notification."""
    return {"log": notifying(logging.getLogger("slipway.notifications").info)}


def open_chores(settings: Settings) -> Callable[[], None]:
    """Return what an executor does every few seconds for its installation."""
    return lambda: wiring_of(settings.target).cap_logs(settings)


def open_engine(settings: Settings) -> WorkflowEngine:
    """Open the engine of durable workflows (its import takes a second)."""
    from pipelines.adapters.workflows.dbos import DbosEngine

    return DbosEngine(settings.workflows_url)


def find_work(settings: Settings) -> list[str]:
    """Return what this installation's executor does or is about to begin, asked beside it."""
    return under_way(open_records(settings), now())


def planned_fault(settings: Settings, environ: Mapping[str, str]) -> Callable[[str], None]:
    """Return what stops this process at the step that SLIPWAY_FAULT names (`K5:kill`, `K5:freeze`).

    Honoured only with a home made by the tests; refused elsewhere.
    """
    asked = environ.get("SLIPWAY_FAULT", "")
    if not asked:
        return lambda step: None
    if not (settings.home / TEST_MARK).exists():
        raise UsageError("SLIPWAY_FAULT works with a home made by the tests only", next="unset SLIPWAY_FAULT")
    wanted, _, how = asked.partition(":")
    signals = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
    if how not in signals:
        raise UsageError(f"SLIPWAY_FAULT={asked!r} is not STEP:kill or STEP:freeze", next="name one of them")

    def stop(step: str) -> None:
        if step == wanted:
            os.kill(os.getpid(), signals[how])

    return stop
