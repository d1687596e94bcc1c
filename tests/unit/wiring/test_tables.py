"""The process that makes the tables: the owner's login, a database that may come late, and an end."""

import logging

import pytest

from pipelines.errors import DatabaseUnavailable, UsageError
from pipelines.wiring.tables import make_tables

OWNER = {
    "PGUSER": "slipway-owner",
    "PGPASSWORD": "p/w",
    "PGHOST": "slipway-postgres",
    "PGPORT": "5432",
    "PGDATABASE": "slipway",
}


class Database:
    """One that answers at the `after`-th try."""

    def __init__(self, after: int) -> None:
        self.asked: list[tuple[str, str]] = []
        self._after = after

    def prepare(self, url: str, role: str) -> None:
        self.asked.append((url, role))
        if len(self.asked) < self._after:
            raise DatabaseUnavailable("nobody answers")


def test_the_tables_are_made_as_their_owner_for_the_role_that_uses_them() -> None:
    database = Database(after=1)
    make_tables(OWNER, prepare=database.prepare)
    assert database.asked == [("postgresql://slipway-owner:p%2Fw@slipway-postgres:5432/slipway", "slipway")]


def test_a_database_that_starts_at_the_same_time_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    database = Database(after=3)
    with caplog.at_level(logging.WARNING):
        make_tables(OWNER, prepare=database.prepare, poll_s=0.001)
    assert len(database.asked) == 3
    assert caplog.messages == ["nobody answers: waiting up to 120 s for the database"]


def test_one_that_never_answers_is_told() -> None:
    with pytest.raises(DatabaseUnavailable, match="nobody answers"):
        make_tables(OWNER, prepare=Database(after=1_000_000).prepare, patience_s=0.01, poll_s=0.001)


def test_without_the_owners_login_it_is_refused() -> None:
    with pytest.raises(UsageError, match="PGPASSWORD"):
        make_tables({name: value for name, value in OWNER.items() if name != "PGPASSWORD"})
