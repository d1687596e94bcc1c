"""Wires backups: the archive, its keys, and the place of each target that it is taken from and put into."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.adapters.backup.archive import describe_files, opened_archive, write_archive
from pipelines.adapters.backup.encryption import read_identities, read_recipients
from pipelines.adapters.backup.local_home import refuse_used_home
from pipelines.adapters.database.records import now
from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.domain import policy, report
from pipelines.domain.backup import Manifest
from pipelines.domain.records import LeaderLease
from pipelines.ports import BackupPlace
from pipelines.settings.installation import installation_id
from pipelines.settings.settings import Settings, TargetName
from pipelines.wiring.stores import open_records
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
    """Write into the records of a home that is being restored where they come from, and that their executor has gone.

    An older Slipway's tables are brought up to date for that. Records that are not in the home are left alone.
    """
    if settings.target is not TargetName.LOCAL:
        return
    records = open_records(settings)
    try:
        with records.write() as transaction:
            for leader in transaction.find(LeaderLease):
                transaction.change(leader, left_at=now())
            detail = {"installation": manifest.installation_id, "made_at": manifest.created_at}
            transaction.audit("operator", "restore", "outcome", subject=installation_id(settings) or "", detail=detail)
    finally:
        records.close()
