"""Backs an installation up while it runs, and restores one into a new home.

Every digest holds before anything is in its place; what an interrupted restore has left is used by nobody, and the
next one begins anew.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.domain.backup import FORMAT, Manifest
from pipelines.errors import OtherModel, Refused, TargetUnavailable, UsageError
from pipelines.ports import BackupPlace
from pipelines.settings.installation import FILE, InstallationRecord
from pipelines.settings.settings import Settings, model_name

ProgressReporter = Callable[[str], None]


def back_up(
    file: Path, recipients: Sequence[str], settings: Settings, environ: Mapping[str, str], report: ProgressReporter
) -> dict[str, Any]:
    """Write all of an installation's state into a new file, encrypted to `recipients` if there are any.

    Returns what was written. Raises UsageError where nothing was brought up yet, or for a file that exists.
    """
    from pipelines.wiring.backups import describe_files, known_formats, open_place, open_recipients, write_archive

    record = InstallationRecord.read(settings.home)
    if record is None:
        raise UsageError(f"there is no installation in {settings.home}", next='run "make up" first')
    _check_new(file)
    keys, began = open_recipients(recipients), time.monotonic()
    with _emptied(settings.home / "run" / "backup", "backup") as scratch:
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
    return {
        "file": str(file),
        "files": len(manifest.files),
        "bytes": file.stat().st_size,
        "encrypted": bool(keys),
        "seconds": round(time.monotonic() - began, 1),
    }


def restore(
    file: Path, identity: Path | None, settings: Settings, environ: Mapping[str, str], report: ProgressReporter
) -> dict[str, Any]:
    """Make a new home of a backup, as an installation of its own; "up" then starts it.

    Its ports and its prefix are those of the backup, unless the environment names others. Raises UsageError for a home
    that is used or a backup that does not fit, BackupDamaged before anything is in its place.
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
    with _emptied(settings.home.with_name(f".{settings.home.name}.restoring"), "restore") as staged:
        with opened_archive(file, keys) as archive:
            manifest: Manifest = archive.manifest
            _refuse_misfit(manifest, settings)
            manifest.refuse_newer(known_formats(settings))
            report(f"a backup of {manifest.model}, made {manifest.created_at}: checking {len(manifest.files)} files")
            archive.unpack(staged)
        settled = _renamed(staged / "home", settings, environ)
        place: BackupPlace = open_place(settled, environ)
        place.refuse_used()
        note_restored(replace(settled, home=staged / "home"), manifest)
        place.install(staged, report)
    return {
        "home": str(settings.home),
        "model": manifest.model,
        "created_at": manifest.created_at,
        "files": len(manifest.files),
        "seconds": round(time.monotonic() - began, 1),
    }


@contextmanager
def _emptied(folder: Path, verb: str) -> Iterator[Path]:
    """Lend an empty folder to one `verb` at a time, and remove it at its end; one that was killed leaves it behind."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield folder
    except BlockingIOError:
        raise Refused(f"another {verb} is under way in {folder}", next="wait for it to end") from None
    else:
        shutil.rmtree(folder)
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
