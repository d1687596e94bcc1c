"""Wires the concrete adapters to the ports: the only module that names them."""

import os
import signal
from collections.abc import Callable, Mapping

from pipelines.adapters.audit_file import FileAuditHeads
from pipelines.adapters.bundle_store import BundleStore
from pipelines.adapters.database import SqlRecords, now
from pipelines.adapters.http_probe import HttpProbe
from pipelines.adapters.load_process import LoadProcess
from pipelines.adapters.local_stack import LocalStack
from pipelines.adapters.local_target import LocalTarget
from pipelines.adapters.mlflow_versions import MlflowVersions
from pipelines.domain.records import ExecutorSeat
from pipelines.errors import UsageError
from pipelines.ports import ModelRegistry
from pipelines.settings import Settings
from pipelines.workflows.seat import is_alive
from pipelines.workflows.services import Services

# A home carries this file only when the tests made it.
TEST_MARK = ".made-by-tests"


def open_records(settings: Settings) -> SqlRecords:
    """Open Slipway's own state and its audit heads."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqlRecords(settings.database_url, open_heads(settings))


def open_heads(settings: Settings) -> FileAuditHeads:
    """Open the audit chain's heads."""
    return FileAuditHeads(settings.heads_file)


def open_versions(settings: Settings) -> MlflowVersions:
    """Connect to the registry for reading, without MLflow's own library."""
    return MlflowVersions(settings.mlflow_url)


def open_stack(settings: Settings, environ: Mapping[str, str]) -> LocalStack:
    """Open the record of this home's processes."""

    def executor_alive(pid: int) -> bool:
        return any(seat.pid == pid and is_alive(seat, now()) for seat in open_records(settings).find(ExecutorSeat))

    return LocalStack(settings, environ, executor_alive)


def open_registry(settings: Settings) -> ModelRegistry:
    """Connect to the model registry (imports MLflow, which takes seconds)."""
    from pipelines.adapters.mlflow_registry import MlflowModelRegistry

    return MlflowModelRegistry(settings.mlflow_url)


def open_bundles(settings: Settings) -> BundleStore:
    """Open the store of bundles."""
    return BundleStore(settings.home / "bundles")


def open_target(settings: Settings) -> LocalTarget:
    """Open the local target, whose keepers must run for it to do anything."""
    return LocalTarget(settings.home, open_bundles(settings).path)


def build_services(settings: Settings, *, executor: str, environ: Mapping[str, str]) -> Services:
    """Build all that the workflows need, for the executor of that name."""
    return Services(
        records=open_records(settings),
        registry=open_registry(settings),
        target=open_target(settings),
        loads=LoadProcess(settings.root),
        probe=HttpProbe(),
        bundles=open_bundles(settings),
        workdir=settings.home,
        executor=executor,
        now=now,
        fault=planned_fault(settings, environ),
    )


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
