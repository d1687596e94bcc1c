"""MLflow's own tables in PostgreSQL before the server in its container starts; the migrations are MLflow's."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.servers.postgres import PostgresServer
from tests.support.servers.postgres_admin import PostgresAdmin

PLUGIN = Path(__file__).resolve().parents[2] / "infra" / "images" / "mlflow" / "plugin"
# MLflow's first revision.
FIRST = "451aebb31d03"
_numbers = itertools.count(1)


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """An empty database of MLflow's."""
    name, admin = f"mlflow_{next(_numbers)}", PostgresAdmin(postgres.url())
    admin.ensure_role("mlflow", postgres.password)
    admin.ensure_database(name, "mlflow", users=["mlflow"])
    return postgres.url(name, "mlflow").replace("+psycopg", "+psycopg2")


def start(url: str) -> "subprocess.CompletedProcess[str]":
    """Start what becomes the server, here a program that says so."""
    command = [sys.executable, "-m", "slipway_mlflow_tables", "echo", "serving"]
    environ = {**os.environ, "PYTHONPATH": str(PLUGIN), "MLFLOW_BACKEND_STORE_URI": url}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        done = connection.execute(sa.text(statement))
        return [tuple(row) for row in done] if done.returns_rows else []


def make_older(url: str) -> None:
    """Make the tables of MLflow's first revision, with one experiment."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sa.create_engine(url, poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(url), FIRST)
    execute(url, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('churn', 'active')")


def test_an_empty_database_is_left_to_the_server(url: str) -> None:
    ended = start(url)
    assert (ended.returncode, ended.stdout) == (0, "serving\n"), ended.stderr
    assert execute(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


def test_older_tables_are_upgraded_before_the_server_starts_and_those_of_a_newer_mlflow_refused(url: str) -> None:
    make_older(url)
    ended = start(url)
    assert ended.returncode == 0 and ended.stdout.endswith("serving\n"), ended.stderr
    assert f"at revision {FIRST}: bringing them to" in ended.stderr
    assert execute(url, "SELECT name FROM experiments") == [("churn",)]
    assert execute(url, "SELECT count(*) FROM registered_models") == [(0,)]
    ((newest,),) = execute(url, "SELECT version_num FROM alembic_version")

    execute(url, "UPDATE alembic_version SET version_num = 'f00dfeed'")
    refused = start(url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "at revision f00dfeed; MLflow " in refused.stderr and f"revisions up to {newest}" in refused.stderr
