"""The databases that every contract of Slipway's own state is asked of: SQLite, and a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords
from tests.support.servers.databases import Place, postgres_place, sqlite_place


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return sqlite_place(tmp_path)
    return postgres_place(request.getfixturevalue("postgres"), tmp_path)


@pytest.fixture
def records(place: Place) -> Iterator[SqlRecords]:
    with place.opened() as opened:
        yield opened
