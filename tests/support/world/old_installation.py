"""The installation that Slipway's first Alembic revision finds: version 1 serves production, version 2 waits for a yes.

Its files are in tests/fixtures/schema_2, whose README says how they were made.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg.types.json import Json

from tests.support.servers.databases import Place

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "schema_2"
OLD_CHECKPOINTS = FIXTURE / "home" / "audit-heads.jsonl"


def old_tables(place: Place) -> None:
    """Make the tables of that installation, with their rows, in a database without any."""
    if place.url.startswith("sqlite"):
        load_sqlite(Path(place.url.removeprefix("sqlite:///")), "slipway")
    else:
        _load_postgres(place)


def load_sqlite(file: Path, name: str) -> None:
    """Make a SQLite file of a dump of the fixture."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript((FIXTURE / f"{name}.sql").read_text())


def _load_postgres(place: Place) -> None:
    """Make the tables as their owner did, and copy the rows that SQLite had."""
    with (
        closing(sqlite3.connect(":memory:")) as rows,
        psycopg.connect(place.owner_url.replace("+psycopg", "")) as server,
    ):
        rows.executescript((FIXTURE / "slipway.sql").read_text())
        server.execute((FIXTURE / "postgres.sql").read_bytes())
        types = (
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        )
        kinds: dict[str, dict[str, str]] = {}
        for table, column, kind in server.execute(types.encode()):
            kinds.setdefault(table, {})[column] = kind
        for table, columns in kinds.items():
            names = list(columns)
            listed, places = ", ".join(names), ", ".join(["%s"] * len(names))
            insert = f"INSERT INTO {table} ({listed}) VALUES ({places})".encode()
            order = "seq" if "seq" in columns else "row"
            for row in rows.execute(f"SELECT {listed} FROM {table} ORDER BY {order}"):
                server.execute(insert, [_value(value, columns[name]) for name, value in zip(names, row, strict=True)])
            if "row" in columns:
                last = f"SELECT setval('{table}_row_seq', (SELECT coalesce(max(row), 0) + 1 FROM {table}), false)"
                server.execute(last.encode())


def _value(value: object, kind: str) -> object:
    if value is None:
        return None
    if kind == "json":
        return Json(json.loads(str(value)))
    return bool(value) if kind == "boolean" else value
