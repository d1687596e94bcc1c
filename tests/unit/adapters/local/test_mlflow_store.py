"""MLflow's own tables before its server starts; the migration itself is MLflow's, run on a real older file."""

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipelines.adapters.local.mlflow_store import upgrade_mlflow
from pipelines.errors import Undecided, UsageError
from tests.support.world.old_installation import load_sqlite

# MLflow's first revision.
FIRST = "451aebb31d03"
# A migration in the midst of which the power goes.
CUT_OFF = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[-1].removeprefix("sqlite:///"))
database.execute("DROP TABLE experiments")
database.commit()
os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "mlflow.db"
    load_sqlite(file, "mlflow")
    return file


def execute(file: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as opened, opened:
        return opened.execute(statement).fetchall()


def upgrade(file: Path) -> list[str]:
    told: list[str] = []
    upgrade_mlflow(file, os.environ, told.append)
    return told


def test_a_file_of_this_mlflow_and_one_that_is_not_there_are_left_alone(database: Path, tmp_path: Path) -> None:
    before = database.read_bytes()

    assert upgrade(database) == []
    assert upgrade(tmp_path / "none.db") == []

    assert database.read_bytes() == before
    assert list(tmp_path.iterdir()) == [database]


def test_a_newer_mlflow_is_refused_with_both_revisions(database: Path) -> None:
    ((known,),) = execute(database, "SELECT version_num FROM alembic_version")
    execute(database, "UPDATE alembic_version SET version_num = 'f00dfeed'")

    with pytest.raises(UsageError, match=f"at revision f00dfeed; MLflow .* knows revisions up to {known}"):
        upgrade(database)


def test_an_older_file_is_upgraded_and_kept_beside(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    make_older(file)

    told = upgrade(file)

    assert told and FIRST in told[0]
    assert execute(file, "SELECT count(*) FROM registered_models") == [(0,)]
    assert execute(file, "SELECT name FROM experiments") == [("churn",)]
    assert execute(tmp_path / f"mlflow.db.{FIRST}", "SELECT name FROM experiments") == [("churn",)]


def test_a_file_that_mlflow_can_not_upgrade_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    make_older(file)
    execute(file, "CREATE TABLE registered_models (in_the_way TEXT)")

    with pytest.raises(Undecided, match="MLflow can't upgrade") as refused:
        upgrade(file)

    assert f"{file} is as it was" in refused.value.next
    assert execute(file, "SELECT version_num FROM alembic_version") == [(FIRST,)]
    assert list(tmp_path.iterdir()) == [file]


def test_an_upgrade_that_is_cut_off_has_changed_nothing(tmp_path: Path) -> None:
    file = tmp_path / "home" / "mlflow.db"
    file.parent.mkdir()
    make_older(file)
    before = file.read_bytes()
    (tmp_path / "mlflow.py").write_text(CUT_OFF)
    cut_off = os.fork()
    if cut_off == 0:
        upgrade_mlflow(file, {**os.environ, "PYTHONPATH": str(tmp_path)}, lambda line: None)
        os._exit(0)
    assert os.waitpid(cut_off, 0)[1] == signal.SIGKILL

    assert file.read_bytes() == before
    upgrade(file)
    assert execute(file, "SELECT name FROM experiments") == [("churn",)]
    assert execute(file.with_name(f"mlflow.db.{FIRST}"), "SELECT name FROM experiments") == [("churn",)]
    assert sorted(path.name for path in file.parent.iterdir()) == ["mlflow.db", f"mlflow.db.{FIRST}"]


def test_a_copy_of_before_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    make_older(file)
    good = tmp_path / f"mlflow.db.{FIRST}"
    good.write_bytes(b"of before an upgrade that was cut off")

    upgrade(file)

    assert good.read_bytes() == b"of before an upgrade that was cut off"
    assert execute(tmp_path / f"mlflow.db.{FIRST}-2", "SELECT name FROM experiments") == [("churn",)]


def make_older(file: Path) -> None:
    """Make the tables of MLflow's first revision, with one experiment."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    url = f"sqlite:///{file}"
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    command.upgrade(_get_alembic_config(url), FIRST)
    execute(file, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('churn', 'active')")
