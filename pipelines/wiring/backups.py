"""Wires backups: the archive, its keys, and the place of each target that it is taken from and put into."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.adapters.backup.archive import describe_files, opened_archive, write_archive
from pipelines.adapters.backup.encryption import read_identities, read_recipients
from pipelines.adapters.backup.local_home import refuse_used_home
from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.domain import policy, report
from pipelines.domain.backup import Manifest
from pipelines.ports import BackupPlace
from pipelines.settings.settings import Settings
from pipelines.wiring.targets import wiring_of

__all__ = ["describe_files", "opened_archive", "refuse_used_home", "write_archive"]


def open_place(settings: Settings, environ: Mapping[str, str]) -> BackupPlace:
    """Open what of this installation is backed up, or would be restored."""
    return wiring_of(settings.target).open_backup_place(settings, environ)


def open_recipients(given: Sequence[str]) -> list[Any]:
    """Return the public keys to encrypt to."""
    return read_recipients(given) if given else []


def open_identities(file: Path | None) -> list[Any]:
    """Return the secret keys to decrypt with."""
    return read_identities(file) if file else []


def known_formats(settings: Settings) -> dict[str, int | str]:
    """Return the version of each format that this Slipway writes, which is the newest that it reads."""
    from pipelines.adapters.workflows.dbos import WORKFLOW_VERSION

    return {
        "mlflow": version("mlflow-skinny"),
        "policy": policy.VERSION,
        "records": SCHEMA_VERSION,
        "report": report.VERSION,
        "workflows": WORKFLOW_VERSION,
        **wiring_of(settings.target).BACKUP_FORMATS,
    }


def note_restored(settings: Settings, manifest: Manifest) -> None:
    """See to it that the records of a home that is being restored tell where they come from."""
    wiring_of(settings.target).note_restored(settings, manifest)
