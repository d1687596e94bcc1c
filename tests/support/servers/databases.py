"""Databases for tests of what is kept in SQL: each test gets a new one, on SQLite and on PostgreSQL alike.

Their tables are made once in a process and then copied: to make them takes longer than most tests.
"""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import sqlalchemy as sa

from pipelines.adapters.database.records import SqlRecords, prepare_records
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.ports import Checkpoints
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.postgres_admin import PostgresAdmin

OWNER, APPLICATION = "slipway_owner", "slipway"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database and its checkpoints: `url` is the application's, `owner_url` that of who owns the tables."""

    url: str
    owner_url: str
    checkpoints_file: Path

    @property
    def checkpoints(self) -> FileCheckpoints:
        """The checkpoints of its audit chain."""
        return FileCheckpoints(self.checkpoints_file)

    def open(self) -> SqlRecords:
        """Open the records in it."""
        return SqlRecords(self.url, self.checkpoints)

    @contextmanager
    def opened(self) -> Iterator[SqlRecords]:
        """Open the records in it for a while."""
        records = self.open()
        try:
            yield records
        finally:
            records.close()

    def execute(self, *statements: str, owner: bool = False) -> list[tuple[object, ...]]:
        """Execute statements behind Slipway's back and return the rows of the last one."""
        url = self.owner_url if owner else self.url
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
                return [file.execute(statement).fetchall() for statement in statements][-1]
        with psycopg.connect(url.replace("+psycopg", "")) as server:
            for statement in statements:
                done = server.execute(statement.encode())
            return done.fetchall() if done.description else []


def bare_sqlite(home: Path) -> Place:
    """Return a database in a file of `home`, without any table."""
    url = f"sqlite:///{home / 'slipway.db'}"
    return Place(url, url, home / "checkpoints.jsonl")


def sqlite_place(home: Path) -> Place:
    """Make a database with its tables in a file of `home`."""
    with (home / "slipway.db").open("xb") as file:
        file.write(_sqlite_tables())
    return bare_sqlite(home)


def sqlite_records(home: Path, checkpoints: Checkpoints) -> SqlRecords:
    """Open the records of a new database in a file of `home`."""
    return SqlRecords(sqlite_place(home).url, checkpoints)


@cache
def _sqlite_tables() -> bytes:
    with TemporaryDirectory() as home:
        bare_sqlite(Path(home)).open().close()
        return Path(home, "slipway.db").read_bytes()


def bare_place(server: PostgresServer, home: Path) -> Place:
    """Make a database with its two roles, without any table."""
    return _postgres_place(server, home, "template0")


def postgres_place(server: PostgresServer, home: Path, *, port: int = 0) -> Place:
    """Make a database with its two roles and its tables; the application reaches it at `port` if given."""
    place = _postgres_place(server, home, _postgres_tables(server))
    return replace(place, url=place.url.replace(f":{server.port}/", f":{port or server.port}/"))


@cache
def _postgres_tables(server: PostgresServer) -> str:
    """Return the name of a database that has the tables and nobody connected."""
    with TemporaryDirectory() as home:
        place = bare_place(server, Path(home))
    prepare_records(place.owner_url, APPLICATION)
    return str(sa.make_url(place.owner_url).database)


def _postgres_place(server: PostgresServer, home: Path, template: str) -> Place:
    name, password = f"slipway_{next(_numbers)}", server.password
    admin = PostgresAdmin(server.url())
    admin.ensure_role(OWNER, password)
    admin.ensure_role(APPLICATION, password)
    admin.ensure_database(name, OWNER, users=[APPLICATION], template=template)
    urls = (server.url(name, role, password) for role in (APPLICATION, OWNER))
    return Place(*urls, home / "checkpoints.jsonl")
