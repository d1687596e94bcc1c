"""Backs an installation up while it runs, and restores one into a new home.

Every digest holds before anything is in its place; what an interrupted restore has left is used by nobody, and the
next one begins anew.
"""

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.disk import remove_tree
from pipelines.domain import audit
from pipelines.domain.audit import Checkpoint
from pipelines.domain.backup import FORMAT, Manifest
from pipelines.errors import BackupDamaged, OtherModel, Refused, TargetUnavailable, Undecided, UsageError
from pipelines.ports import BackupPlace
from pipelines.settings.installation import FILE, InstallationRecord
from pipelines.settings.models import model_name
from pipelines.settings.settings import Settings, TargetName

ProgressReporter = Callable[[str], None]


def back_up(
    file: Path, recipients: Sequence[str], settings: Settings, environ: Mapping[str, str], report: ProgressReporter
) -> dict[str, Any]:
    """Write all of an installation's state into a new file, encrypted to `recipients` if there are any.

    Returns what was written, and the head of the audit log in it. Raises UsageError where nothing was brought up yet,
    or for a file that exists, Undecided for what can't be read or written.
    """
    from pipelines.wiring.backups import describe_files, known_formats, open_place, open_recipients, write_archive

    record = InstallationRecord.read(settings.home)
    if record is None:
        raise UsageError(f"there is no installation in {settings.home}", next='run "make up" first')
    _check_new(file)
    keys, began = open_recipients(recipients), time.monotonic()
    with _decided("back up"), _emptied(settings.home / "run" / "backup", "backup") as scratch:
        sources = open_place(settings, environ).capture(scratch, report)
        manifest = Manifest(
            format=FORMAT,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            slipway=version("slipway"),
            target=str(settings.target),
            model=record.model or model_name(settings.project),
            installation_id=record.id,
            formats=known_formats(settings),
            files=describe_files(sources),
        )
        write_archive(file, manifest, sources, keys)
        # From here on the copies are of no use but this.
        head = _head(replace(settings, home=scratch))
    return {
        "file": str(file),
        "head": str(head) if head else None,
        "files": len(manifest.files),
        "bytes": file.stat().st_size,
        "encrypted": bool(keys),
        "seconds": round(time.monotonic() - began, 1),
    }


def restore(
    file: Path,
    identity: Path | None,
    settings: Settings,
    environ: Mapping[str, str],
    report: ProgressReporter,
    *,
    expected: Checkpoint | None = None,
) -> dict[str, Any]:
    """Make a new home of a backup, as an installation of its own; "up" then starts it.

    Its ports and its prefix are those of the backup, unless the environment names others. A backup brings its own
    checkpoints, so only a head that was `expected` shows that its audit log is not an older or another one; without
    any, `holds_expected` is None. Raises UsageError for a home that is used or a backup that does not fit, and before
    anything is in its place BackupDamaged, or Undecided for what can't be read or written.
    """
    from pipelines.wiring.backups import (
        known_formats,
        note_restored,
        open_identities,
        open_place,
        opened_archive,
        refuse_used_home,
    )

    began = time.monotonic()
    refuse_used_home(settings.home)
    keys = open_identities(identity)
    folder = settings.home.with_name(f".{settings.home.name}.restoring")
    with _decided("restore"), _emptied(folder, "restore") as staged:
        with opened_archive(file, keys) as archive:
            manifest: Manifest = archive.manifest
            _refuse_misfit(manifest, settings)
            manifest.refuse_newer(known_formats(settings))
            report(f"a backup of {manifest.model}, made {manifest.created_at}: checking {len(manifest.files)} files")
            archive.unpack(staged)
        settled = _renamed(staged / "home", settings, environ)
        place: BackupPlace = open_place(settled, environ)
        place.refuse_used()
        head = _head(replace(settled, home=staged / "home"), expected)
        note_restored(replace(settled, home=staged / "home"), manifest)
        place.install(staged, report)
    return {
        "home": str(settings.home),
        "model": manifest.model,
        "created_at": manifest.created_at,
        "files": len(manifest.files),
        "head": str(head) if head else None,
        "holds_expected": True if expected else None,
        "seconds": round(time.monotonic() - began, 1),
    }


def _head(copied: Settings, expected: Checkpoint | None = None) -> Checkpoint | None:
    """Return the head of the audit log in a copied home; None where it has none, or is not in the home.

    Raises BackupDamaged unless the log holds and has the entry that was expected.
    """
    from pipelines.wiring.stores import open_checkpoints, open_records, upgrade_tables

    if copied.target is not TargetName.LOCAL:
        if expected:
            raise TargetUnavailable(
                f"with TARGET={copied.target} the audit log can't be read before it runs",
                next='restore without a head, then compare it with what "make audit-verify" prints',
            )
        return None
    upgrade_tables(copied)
    records = open_records(copied)
    try:
        if expected:
            checked = audit.verify(records.audit_trail(), [*open_checkpoints(copied).checkpoints(), expected])
            if not checked.valid:
                raise BackupDamaged(
                    f"the audit log of the backup is not that of head {expected}: {checked.detail}",
                    next="restore the backup that was made last, or without a head if what it lacks may be lost",
                )
        newest = records.newest_audit(1)
    finally:
        records.close()
    return Checkpoint(newest[-1].seq, newest[-1].hash) if newest else None


@contextmanager
def _decided(verb: str) -> Iterator[None]:
    """Turn what a disk refuses into Undecided: nothing has changed then."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise Undecided(
            f"can't {verb}: {error}", next=f"see that the disk has room and its files can be read, then {verb} again"
        ) from error


@contextmanager
def _emptied(folder: Path, verb: str) -> Iterator[Path]:
    """Lend an empty folder to one `verb` at a time, and remove it at its end; one that was killed leaves it behind."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another {verb} is under way in {folder}", next="wait for it to end") from None
        try:
            for left in folder.iterdir():
                remove_tree(left) if left.is_dir() else left.unlink()
            yield folder
        finally:
            remove_tree(folder)
    finally:
        os.close(held)


def _refuse_misfit(manifest: Manifest, settings: Settings) -> None:
    if manifest.target != settings.target:
        raise TargetUnavailable(
            f"the backup is of TARGET={manifest.target}, not of {settings.target}", next=f"TARGET={manifest.target}"
        )
    asked = model_name(settings.project)
    if manifest.model != asked:
        raise OtherModel(
            f"the backup is of model {manifest.model!r}, and {settings.project / 'model.yaml'} names {asked!r}",
            next=f'restore it from the project whose model.yaml says "name: {manifest.model}"',
        )


def _renamed(home: Path, settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Give a staged home an id of its own, so that no verb takes the installation that was backed up for it.

    Returns its settings: those of the backup, and what the environment names otherwise.
    """
    kept = InstallationRecord.read(home)
    if kept is None:
        raise UsageError(f"the backup names no installation in {FILE}", next="take another backup")
    settled = Settings.from_environ({**kept.joined(environ), "SLIPWAY_HOME": str(settings.home)})
    new = kept.model_copy(update={"id": uuid.uuid4().hex, "settings": settled.installation_environ()})
    new.write(home)
    return settled


def _check_new(file: Path) -> None:
    if file.exists():
        raise UsageError(f"{file} exists", next="name a new file")
    if not file.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {file.resolve().parent}", next="make it, or name another file")
