"""Finds the wiring of the target that is set: one module here for each, by the target's name.

A module of that name fills TargetWiring with functions, and is all that Slipway's processes and verbs know of a target.
"""

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, cast

from pipelines.adapters.home_lock import held
from pipelines.domain.backup import Manifest
from pipelines.ports import (
    BackupPlace,
    Checkpoints,
    DataRemote,
    Installation,
    JobRunner,
    LoadRunner,
    Records,
    SecretKeeper,
    Target,
)
from pipelines.releases.services import Timing
from pipelines.settings.settings import Settings, TargetName


class TargetWiring(Protocol):
    """What each target provides, on the operator's machine and in the processes of the installation."""

    # How the operator's load runs reach an environment, as their results say it.
    LOAD_PATH: str
    # Versions of formats that backups of this target have beside those of all.
    BACKUP_FORMATS: Mapping[str, int | str]

    def open_installation(self, settings: Settings, environ: Mapping[str, str]) -> Installation:
        """Open all of the home's installation, from the operator's side."""

    def is_being_changed(self, settings: Settings) -> bool | None:
        """Whether a command of this machine holds the leases to change the installation; None where it can't tell."""

    def open_secrets(self, settings: Settings, environ: Mapping[str, str]) -> SecretKeeper:
        """Open the installation's secrets; raise UsageError where there are none."""

    def open_backup_place(self, settings: Settings, environ: Mapping[str, str]) -> BackupPlace:
        """Open what of the installation is backed up, and restored."""

    def note_restored(self, settings: Settings, manifest: Manifest) -> None:
        """Let what is restored into a home tell where it comes from."""

    def take_note_of_restore(self, settings: Settings, records: Records) -> None:
        """Write into the records where they come from, where only a process of the installation can, once."""

    def open_data_remote(self, settings: Settings, environ: Mapping[str, str]) -> DataRemote:
        """Open the installation's store of DVC's data; raise TargetUnavailable where there is none."""

    def find_staging_load(
        self, settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
    ) -> Callable[[], LoadRunner] | None:
        """Return what opens the way to load staging by several workers of the target; None where there is none."""

    def open_checkpoints(self, settings: Settings) -> Checkpoints:
        """Open the audit chain's checkpoints, in a process of the installation."""

    def open_target(self, settings: Settings) -> Target:
        """Open where releases run, to look at them; without its supervisors, or its engine, it can do nothing."""

    def await_target(self, settings: Settings, show_life: Callable[[], None]) -> Target:
        """Open where releases run, as an executor does that may be started before all is there.

        Calls `show_life` while it waits.
        """

    def cap_logs(self, settings: Settings) -> None:
        """Keep the logs of the installation's processes from growing, where nobody else does."""

    def open_loads(self, settings: Settings) -> LoadRunner:
        """Open what runs the load of the gates."""

    def open_jobs(self, settings: Settings) -> JobRunner:
        """Open what reads the files of strangers."""

    def open_reader(
        self, settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
    ) -> JobRunner:
        """Open what reads the files of strangers for a verb of the operator's machine."""

    def open_converter(
        self, settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
    ) -> JobRunner:
        """Open what loads estimators of strangers, which runs their code; raise TargetUnavailable where nothing may."""

    def timing(self) -> Timing:
        """Return how long releases may take there."""


def wiring_of(target: TargetName) -> TargetWiring:
    """Return the wiring of a target, importing no other's adapters."""
    return cast(TargetWiring, importlib.import_module(f"pipelines.wiring.{target}"))


def open_installation(settings: Settings, environ: Mapping[str, str]) -> Installation:
    """Open this home's installation, whatever its target."""
    return wiring_of(settings.target).open_installation(settings, environ)


def hold_home(settings: Settings, verb: str) -> AbstractContextManager[None]:
    """Let nobody else bring up, take down or destroy what this home has meanwhile; raise Refused with who does.

    A home that is not there is left so.
    """
    return held(settings.home / "home.lock", verb) if settings.home.exists() else nullcontext()


def open_target(settings: Settings) -> Target:
    """Open where this installation's releases run, to look at them: the executor awaits it to change them."""
    return wiring_of(settings.target).open_target(settings)
