"""Brings MLflow's own tables up to date before its server starts, which refuses those of an older MLflow.

The file of before stays beside the new one: MLflow's migrations are not ours to take back.
"""

import contextlib
import importlib.util
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from pipelines.errors import Undecided, UsageError

_TABLE = "alembic_version"
_REVISION = re.compile(r'^(revision|down_revision) = "(\w+)"$', re.MULTILINE)


def upgrade_mlflow(database: Path, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> None:
    """Run MLflow's migrations on a SQLite file that an older MLflow made; a file that is not there needs none.

    Raises UsageError for the tables of a newer MLflow, Undecided when a migration fails: the copy is then put back.
    """
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
    before = database.with_name(f"{database.name}.{revision}")
    _copy(database, before)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode or _revision_of(database) != newest:
        _copy(before, database)
        raise Undecided(
            f"MLflow can't upgrade {database}: {ended.stderr.strip()[-400:]}",
            next=f'{database} is again as it was, and {before.name} its copy; mend that, then run "make up" again',
        )


def _revision_of(database: Path) -> str | None:
    if not database.exists():
        return None
    with contextlib.closing(sqlite3.connect(database)) as file:
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


def _copy(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as read, contextlib.closing(sqlite3.connect(target)) as written:
        read.backup(written)
