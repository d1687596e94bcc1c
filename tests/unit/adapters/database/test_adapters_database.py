"""What only a database in a file can do wrong; the rest is asked in tests/contract/test_records.py."""

import sqlite3
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords, prepare_records
from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.errors import DatabaseUnavailable, UsageError
from tests.support.servers.databases import bare_sqlite
from tests.support.world.fakes import FakeCheckpoints


def test_a_file_that_is_no_database_is_refused_as_unavailable(tmp_path: Path) -> None:
    (tmp_path / "slipway.db").write_bytes(b"not a database, but long enough to be looked at" * 30)

    with pytest.raises(DatabaseUnavailable) as refused:
        bare_sqlite(tmp_path).open()

    assert refused.value.next


def test_a_database_that_can_not_be_written_refuses_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        bare_sqlite(tmp_path / "missing").open()


def test_a_row_can_not_take_the_place_of_an_audit_entry(tmp_path: Path) -> None:
    place = bare_sqlite(tmp_path)
    with place.opened() as records:
        with records.write() as transaction:
            transaction.audit("alice", "promotion", "intent", subject="p-1")
        before = list(records.audit_trail())

        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            place.execute("REPLACE INTO audit_log SELECT * FROM audit_log")

        assert list(records.audit_trail()) == before


def test_a_kind_of_database_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="mysql"):
        SqlRecords("mysql://nobody@127.0.0.1/slipway", FakeCheckpoints())


def test_a_file_of_a_newer_slipway_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    place, newer = bare_sqlite(tmp_path), SCHEMA_VERSION + 1
    place.execute(f"PRAGMA user_version = {newer}")

    with pytest.raises(UsageError, match=f"has slipway schema {newer}, this Slipway needs .* {SCHEMA_VERSION}"):
        place.open()

    assert place.execute("PRAGMA user_version") == [(newer,)]
    assert place.execute("SELECT count(*) FROM sqlite_master") == [(0,)]


def test_a_file_without_tables_gets_them_by_whoever_opens_it(tmp_path: Path) -> None:
    place = bare_sqlite(tmp_path)
    place.execute("PRAGMA user_version = 1")

    place.open().close()

    assert place.execute("PRAGMA user_version") == [(SCHEMA_VERSION,)]


def test_a_file_has_no_roles_to_prepare(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="roles"):
        prepare_records(f"sqlite:///{tmp_path / 'slipway.db'}", "slipway")
