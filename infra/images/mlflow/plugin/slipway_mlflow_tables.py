"""Brings MLflow's tables up to date, then becomes the server, which refuses those of an older MLflow.

`python -m slipway_mlflow_tables COMMAND [WORD...]`. The tables of a newer MLflow are refused with both versions. In
PostgreSQL a migration that is cut off has changed nothing, and the next start begins it again.
"""

import importlib.util
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

NEWER = 2
DATABASE_S = 120.0


def upgrade(url: str) -> None:
    """Run MLflow's migrations where there are tables that lack some; a new database gets its own from the server."""
    found = _revision_of(url)
    # Importing MLflow takes seconds, and most starts have nothing to migrate.
    mlflow = importlib.util.find_spec("mlflow")
    assert mlflow is not None and mlflow.origin is not None
    scripts = ScriptDirectory(str(Path(mlflow.origin).parent / "store" / "db_migrations"))
    newest = scripts.get_current_head()
    if found in (None, newest):
        return
    if found not in {script.revision for script in scripts.walk_revisions()}:
        sys.stderr.write(
            f"the tables are of a newer MLflow, at revision {found}; MLflow {version('mlflow')} knows revisions up to "
            f"{newest}: use the newer one, or restore a backup of before\n"
        )
        sys.exit(NEWER)
    sys.stderr.write(f"the tables are at revision {found}: bringing them to {newest}\n")
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", url], check=True)


def _revision_of(url: str) -> str | None:
    """Return what the database says of its tables, once it answers: it may be started at the same time."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + DATABASE_S
    while True:
        try:
            with engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision()
        except sa.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


if __name__ == "__main__":
    upgrade(os.environ["MLFLOW_BACKEND_STORE_URI"])
    os.execvp(sys.argv[1], sys.argv[1:])
