"""Brings MLflow's own tables up to date before its server starts, which refuses those of an older MLflow.

A copy is upgraded and takes the file's place when it is whole: a migration that is cut off leaves half of its tables.
The file of before stays beside the new one: MLflow's migrations are not ours to take back.
"""

import contextlib
import importlib.util
import itertools
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from pipelines.adapters.database.lost_files import damage_refused, refuse_lost
from pipelines.disk import sync
from pipelines.errors import Undecided, UsageError

_TABLE = "alembic_version"
_REVISION = re.compile(r'^(revision|down_revision) = "(\w+)"$', re.MULTILINE)


def upgrade_mlflow(database: Path, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> None:
    """Run MLflow's migrations on a SQLite file that an older MLflow made; a file that is not there needs none.

    Raises UsageError for the tables of a newer MLflow, or for a file that is damaged or was lost, Undecided when a
    migration fails: the file is then as it was.
    """
    refuse_lost(database.parent, database.name)
    revision = _revision_of(database)
    if revision is None:
        return
    newest, known = _revisions()
    if revision == newest:
        return
    if revision not in known:
        raise UsageError(
            f"{database} is of a newer MLflow, at revision {revision}; "
            f"MLflow {version('mlflow')} knows revisions up to {newest}",
            next="use the newer MLflow, or restore a backup of before",
        )
    report_progress(f"MLflow's tables are at revision {revision}: bringing them to {newest}")
    upgraded = database.with_name(f"{database.name}.partial")
    _copy(database, upgraded)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{upgraded}"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode or _revision_of(upgraded) != newest:
        _forget(upgraded)
        raise Undecided(
            f"MLflow can't upgrade {database}: {ended.stderr.strip()[-400:]}",
            next=f'{database} is as it was; mend that, then run "make up" again. A {database.name}.{revision} that is'
            " there already is of before an upgrade that was begun",
        )
    _keep(database, revision)
    _replace(database, upgraded)


def _revision_of(database: Path) -> str | None:
    if not database.exists():
        return None
    with damage_refused(database), contextlib.closing(sqlite3.connect(database)) as file:
        if not file.execute("SELECT name FROM sqlite_master WHERE name = ?", [_TABLE]).fetchone():
            return None
        row = file.execute(f"SELECT version_num FROM {_TABLE}").fetchone()
    return str(row[0]) if row else None


def _revisions() -> tuple[str, set[str]]:
    """Return the newest revision that the installed MLflow knows, and all of them.

    They are read, not imported: each would import the whole of MLflow, which takes seconds.
    """
    found = importlib.util.find_spec("mlflow")
    if found is None or found.origin is None:
        raise UsageError("MLflow is not installed", next='run "make setup"')
    scripts = (Path(found.origin).parent / "store" / "db_migrations" / "versions").glob("*.py")
    said = [(kind, revision) for script in scripts for kind, revision in _REVISION.findall(script.read_text())]
    known = {revision for kind, revision in said if kind == "revision"}
    (newest,) = known - {revision for kind, revision in said if kind == "down_revision"}
    return newest, known


def _keep(database: Path, revision: str) -> None:
    """Keep the file of before under a name that no other has: one that is there already may be the only good copy."""
    endings = itertools.chain([revision], (f"{revision}-{number}" for number in itertools.count(2)))
    places = (database.with_name(f"{database.name}.{ending}") for ending in endings)
    kept = next(place for place in places if not place.exists())
    copy = database.with_name(f"{kept.name}.partial")
    _copy(database, copy)
    _replace(kept, copy)


def _replace(file: Path, by: Path) -> None:
    """Let a whole database take a place, so that a power cut leaves this or what was there."""
    sync(by)
    by.replace(file)
    sync(file.parent)


def _forget(file: Path) -> None:
    for rest in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + rest).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    _forget(target)
    with (
        damage_refused(source),
        contextlib.closing(sqlite3.connect(source)) as read,
        contextlib.closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)
