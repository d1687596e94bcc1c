"""Wires the target of one machine: supervisors, a load run as a process, and all state in the home."""

from collections.abc import Callable, Mapping

from pipelines.adapters.backup.local_home import LocalHome
from pipelines.adapters.database.records import now
from pipelines.adapters.jobs.process import ProcessJobs
from pipelines.adapters.load.process import LoadProcess
from pipelines.adapters.local.installation import LocalInstallation
from pipelines.adapters.local.supervisor.logfile import cap_files
from pipelines.adapters.local.target import LocalTarget
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain.backup import Manifest
from pipelines.domain.records import LeaderLease
from pipelines.errors import OlderTables, TargetUnavailable, UsageError
from pipelines.ports import BackupPlace, Checkpoints, DataRemote, JobRunner, LoadRunner, Records, SecretKeeper, Target
from pipelines.releases.leader import is_alive
from pipelines.releases.services import Timing
from pipelines.settings.installation import installation_id
from pipelines.settings.settings import Settings
from pipelines.wiring.stores import open_bundles, open_records, upgrade_tables

LOAD_PATH = "direct"
BACKUP_FORMATS: Mapping[str, int | str] = {}


def open_installation(settings: Settings, environ: Mapping[str, str]) -> LocalInstallation:
    """Open the record of this home's processes."""

    def executor_alive(pid: int) -> bool:
        try:
            records = open_records(settings)
        except OlderTables:
            # It is of the older Slipway too, and is ended as that.
            return True
        try:
            return any(leader.pid == pid and is_alive(leader, now()) for leader in records.find(LeaderLease))
        finally:
            records.close()

    return LocalInstallation(settings, environ, executor_alive, lambda: upgrade_tables(settings))


def open_secrets(settings: Settings, environ: Mapping[str, str]) -> SecretKeeper:
    """Refuse: the processes of one machine need none."""
    raise UsageError("only the installation on containers has secrets", next="TARGET=docker")


def open_backup_place(settings: Settings, environ: Mapping[str, str]) -> BackupPlace:
    """Open the home, which has all state."""
    return LocalHome(settings.home)


def note_restored(settings: Settings, manifest: Manifest) -> None:
    """Write into the records of a home that is being restored where they come from, and that their executor has gone.

    An older Slipway's tables are brought up to date for that.
    """
    upgrade_tables(settings)
    records = open_records(settings)
    try:
        with records.write() as transaction:
            for leader in transaction.find(LeaderLease):
                transaction.change(leader, left_at=now())
            subject = installation_id(settings) or ""
            transaction.audit("operator", "restore", "outcome", subject=subject, detail=manifest.origin())
    finally:
        records.close()


def take_note_of_restore(settings: Settings, records: Records) -> None:
    """Do nothing: the records of a home tell it since they were restored."""


def open_data_remote(settings: Settings, environ: Mapping[str, str]) -> DataRemote:
    """Refuse: there is no object store."""
    raise TargetUnavailable(
        f"TARGET={settings.target} has no object store", next="TARGET=docker; or dvc with a remote of your own"
    )


def is_being_changed(settings: Settings) -> bool | None:
    """Tell nothing: no command holds the leases here."""
    return None


def find_staging_load(
    settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
) -> Callable[[], LoadRunner] | None:
    """Find none: all workers are of this machine."""
    return None


def open_checkpoints(settings: Settings) -> Checkpoints:
    """Open the audit chain's checkpoints in the home."""
    return FileCheckpoints(settings.checkpoints_file)


def open_target(settings: Settings) -> Target:
    """Open the supervisors of this home."""
    return LocalTarget(settings.home, open_bundles(settings).path)


def await_target(settings: Settings, show_life: Callable[[], None]) -> Target:
    """Open the supervisors of this home, which are started before the executor."""
    return open_target(settings)


def cap_logs(settings: Settings) -> None:
    """Cap what each process has written into its file."""
    cap_files(settings.logs)


def open_loads(settings: Settings) -> LoadRunner:
    """Run load as a process beside this one."""
    return LoadProcess(settings.root)


def open_jobs(settings: Settings) -> JobRunner:
    """Run confined jobs as children of this process."""
    return ProcessJobs(settings.root, settings.home / "jobs")


def open_reader(settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> JobRunner:
    """Run confined jobs as children of this process."""
    return open_jobs(settings)


def open_converter(settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> JobRunner:
    """Refuse: nothing on one machine keeps its files and credentials away from the code of a model."""
    raise TargetUnavailable(
        f"TARGET={settings.target} converts no version: loading its estimator runs whatever code is in it, and a"
        " process of this machine could reach all that you can",
        next="log it where it was fitted, with slipway.log_model (see docs/notebooks.md), or use an installation with"
        " TARGET=docker, which converts it in a container without network and credentials",
    )


def timing() -> Timing:
    """Return the usual deadlines."""
    return Timing()
