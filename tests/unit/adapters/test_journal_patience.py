"""How long a workflow waits for a journal that can't be written: counted by thread, and anew after a commit."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipelines.adapters.workflows import dbos
from pipelines.adapters.workflows.dbos import JOURNAL_S, Patience


class Clock:
    """A clock that a test sets on."""

    def __init__(self) -> None:
        self.now_s = 1.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_disk_that_is_full_for_the_commit_alone_is_not_waited_for_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, clock, full = sa.create_engine(f"sqlite:///{tmp_path / 'journal.db'}"), Clock(), [True]
    commit = engine.dialect.do_commit

    def committing(connection: Any) -> None:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        commit(connection)

    monkeypatch.setattr(engine.dialect, "do_commit", committing)
    monkeypatch.setattr(dbos, "time", clock)
    Patience(JOURNAL_S).watch(engine)

    def waits() -> bool:
        """Whether DBOS, in a thread of a workflow, would try its write again."""
        try:
            with engine.begin() as connection:
                connection.execute(sa.text("create table if not exists rows (id integer)"))
        except sa.exc.OperationalError as error:
            return error.connection_invalidated
        return False

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert one.submit(waits).result()
        clock.now_s += JOURNAL_S / 2
        assert one.submit(waits).result()
        clock.now_s += JOURNAL_S / 2
        assert not one.submit(waits).result()
        assert other.submit(waits).result(), "it began to fail only now"
        full[0] = False
        one.submit(waits).result()
        full[0] = True
        assert one.submit(waits).result(), "it was written since"
    engine.dispose()
