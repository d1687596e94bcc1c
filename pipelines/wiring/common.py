"""Wires the concrete adapters to the ports: the only module that names them."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence

from pipelines.adapters.database.records import SqlRecords, now
from pipelines.adapters.http_probe import HttpProbe
from pipelines.adapters.images import build as images
from pipelines.adapters.images.build import DEFAULT, Origin
from pipelines.adapters.images.engine_client import EngineClient
from pipelines.adapters.load.process import LoadProcess
from pipelines.adapters.local.installation import LocalInstallation
from pipelines.adapters.local.target import LocalTarget
from pipelines.adapters.mlflow.versions import MlflowVersions
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain.records import LeaderLease
from pipelines.errors import UsageError
from pipelines.ports import Checkpoints, Installation, LoadRunner, ModelRegistry, Target, WorkflowEngine
from pipelines.releases.leader import is_alive
from pipelines.releases.maintenance import under_way
from pipelines.releases.services import Services, Timing
from pipelines.settings.settings import ROOT, Settings, TargetName

# A home carries this file only when the tests made it.
TEST_MARK = ".made-by-tests"


def open_records(settings: Settings) -> SqlRecords:
    """Open Slipway's own state and its checkpoints."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqlRecords(settings.database_url, open_checkpoints(settings))


def open_checkpoints(settings: Settings) -> Checkpoints:
    """Open the audit chain's checkpoints."""
    if settings.runtime:
        from pipelines.wiring.swarm import open_s3_checkpoints

        return open_s3_checkpoints(settings.runtime)
    return FileCheckpoints(settings.checkpoints_file)


def prepare_tables(settings: Settings) -> None:
    """Make Slipway's tables where that is not for their user to do: in a container, by their owner's login."""
    if settings.runtime:
        from pipelines.wiring.swarm import prepare_tables

        prepare_tables(settings.runtime)


def open_versions(settings: Settings) -> MlflowVersions:
    """Connect to the registry for reading, without MLflow's own library."""
    guard = settings.runtime.mlflow if settings.runtime else None
    return MlflowVersions(settings.mlflow_url, login=(guard.user, guard.password) if guard else None)


def open_installation(settings: Settings, environ: Mapping[str, str]) -> Installation:
    """Open this home's installation: the record of its processes, or what Terraform made of it."""
    if settings.target is TargetName.DOCKER:
        from pipelines.wiring.swarm import open_swarm_installation

        return open_swarm_installation(settings, environ)

    def executor_alive(pid: int) -> bool:
        return any(leader.pid == pid and is_alive(leader, now()) for leader in open_records(settings).find(LeaderLease))

    return LocalInstallation(settings, environ, executor_alive)


def find_work(settings: Settings) -> list[str]:
    """Return what this installation's executor does or is about to begin, asked beside it."""
    return under_way(open_records(settings), now())


def open_engine_client(environ: Mapping[str, str]) -> EngineClient:
    """Find the engine's own command line client; raise EngineUnavailable."""
    return EngineClient.found(environ)


def build_images(
    names: Sequence[str],
    environ: Mapping[str, str],
    report_progress: Callable[[str], None],
    *,
    origin: Origin = DEFAULT,
) -> dict[str, str]:
    """Build the container images that are missing: those of `names`, or all; return name -> image id."""
    return images.build_images(ROOT, names, report_progress=report_progress, environ=environ, origin=origin)


def open_registry(settings: Settings) -> ModelRegistry:
    """Connect to the model registry (imports MLflow, which takes seconds)."""
    from pipelines.adapters.mlflow.registry import MlflowModelRegistry

    return MlflowModelRegistry(settings.mlflow_url)


def open_bundles(settings: Settings) -> BundleStore:
    """Open the store of bundles."""
    return BundleStore(settings.home / "bundles")


def open_target(settings: Settings) -> Target:
    """Open where releases run; without its supervisors, or its engine, it can do nothing."""
    bundles = open_bundles(settings).path
    if settings.runtime:
        from pipelines.wiring.swarm import open_swarm_target

        return open_swarm_target(settings.runtime, settings.home, bundles)
    return LocalTarget(settings.home, bundles)


def await_target(settings: Settings) -> Target:
    """Open where releases run, as an executor does that may be started before all is there."""
    if settings.runtime:
        from pipelines.wiring.swarm import await_swarm_target

        bundles = open_bundles(settings).path
        return await_swarm_target(settings.runtime, settings.home, bundles, settings.sign_of_life.touch)
    return open_target(settings)


def open_loads(settings: Settings) -> LoadRunner:
    """Open what runs load: a process beside this one, or a job of the Swarm."""
    if settings.runtime:
        from pipelines.wiring.swarm import open_load_job

        return open_load_job(settings.runtime)
    return LoadProcess(settings.root)


def open_engine(settings: Settings) -> WorkflowEngine:
    """Open the engine of durable workflows (its import takes a second)."""
    from pipelines.adapters.workflows.dbos import DbosEngine

    return DbosEngine(settings.workflows_url)


def build_services(settings: Settings, *, executor: str, environ: Mapping[str, str]) -> Services:
    """Build all that the workflows need, for the executor of that name."""
    return Services(
        records=open_records(settings),
        registry=open_registry(settings),
        target=await_target(settings),
        loads=open_loads(settings),
        probe=HttpProbe(),
        bundles=open_bundles(settings),
        workdir=settings.home,
        executor=executor,
        now=now,
        fault=planned_fault(settings, environ),
        # To look at a Swarm costs several calls of its engine, and it has a deadline of its own, by replicas.
        timing=Timing(poll_s=0.25, converge_s=600.0) if settings.runtime else Timing(),
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
