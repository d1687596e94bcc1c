"""Slipway's own state in SQL: one table a record kind, the append-only audit log, and the events.

Every writer takes the database's one write lock first: the audit chain can neither fork nor have a gap,
and whoever has read an event has seen every one before it.
"""

import dataclasses
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from pipelines.adapters.database.dialects import WAIT_S, Dialect, PostgresDialect, SqliteDialect, dialect_of
from pipelines.adapters.database.lost_files import RESTORE_IT
from pipelines.adapters.database.signals import FifoListener, PostgresListener
from pipelines.adapters.database.tables import (
    NAMES,
    RecordTables,
    damaged,
    event_of,
    record_of,
    record_tables,
    row_of,
    sql_value,
)
from pipelines.domain import audit
from pipelines.domain.audit import Entry
from pipelines.domain.events import Event, EventKind
from pipelines.domain.records import Record
from pipelines.errors import DatabaseUnavailable, SlipwayError, UsageError
from pipelines.ports import Checkpoints

R = TypeVar("R", bound=Record)

# So many entries of the audit chain are in memory at once.
AUDIT_PAGE = 1000
_NUMBER_GIVEN = sa.text(
    "INSERT INTO sequences (name, last) VALUES (:name, :number) "
    "ON CONFLICT (name) DO UPDATE SET last = excluded.last WHERE sequences.last < excluded.last"
)


def now() -> str:
    """Return the current time as ISO 8601 UTC text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def prepare_records(owner_url: str, application_role: str) -> None:
    """Bring the tables of a PostgreSQL database up to date as their owner, for the application's role to use.

    Repeating it changes nothing; of several at once one does it.
    """
    dialect = dialect_of(sa.make_url(owner_url))
    if not isinstance(dialect, PostgresDialect):
        raise UsageError("a file has no roles to prepare", next="give a postgresql:// URL")
    metadata = record_tables().metadata
    _prepare(owner_url, dialect, lambda connection: dialect.make(connection, metadata, application_role))


def upgrade_file(url: str) -> None:
    """Bring the tables of an SQLite database up to date, once no process of an older Slipway uses them.

    Raises UsageError for the tables of a newer Slipway, or for a database that is no file.
    """
    dialect = dialect_of(sa.make_url(url))
    if not isinstance(dialect, SqliteDialect):
        raise UsageError("these tables are their owner's", next="give an sqlite:// URL")
    _prepare(url, dialect, dialect.make)


def _prepare(url: str, dialect: Dialect, make: Callable[[sa.Connection], None]) -> None:
    engine = dialect.engine(sa.make_url(url))
    try:
        with _translated(), engine.connect() as connection:
            make(connection)
    finally:
        engine.dispose()


class SqlRecords:
    """Fills ports.Records over one SQLAlchemy URL, of SQLite or of PostgreSQL."""

    def __init__(self, url: str, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._tables = record_tables()
        location = sa.make_url(url)
        self._dialect = dialect_of(location)
        self._signals = self._dialect.signals(location)
        self._engine = self._dialect.engine(location)
        try:
            with _translated(), self._engine.connect() as connection:
                self._dialect.open(connection)
        except SlipwayError:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator["SqlTransaction"]:
        """Open a transaction under the write lock; after its commit, tell of its events and export its checkpoint."""
        with _translated(), self._engine.connect() as connection:
            self._dialect.lock(connection)
            transaction = SqlTransaction(connection, self._tables)
            yield transaction
            if transaction.emitted:
                self._signals.announce(connection)
            self._commit(connection, transaction.checkpoint)
        if transaction.emitted:
            self._signals.ring()
        if transaction.checkpoint is not None:
            _export(self._checkpoints, transaction.checkpoint)

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""
        with _translated(reading=True), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables).get(kind, id)

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""
        with _translated(reading=True), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables).find(kind, **equals)

    def newest(self, kind: type[R], limit: int, *, before: str | None = None, **equals: object) -> tuple[list[R], bool]:
        """Return the last records whose fields equal `equals`, oldest first, and whether there are older ones.

        Only those are looked at that are older than the record `before`; raise UsageError when there is none.
        """
        with _translated(reading=True), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables).newest(kind, limit, before=before, **equals)

    def events(
        self, *, after: int = 0, subject: str | None = None, kinds: Collection[EventKind] = (), limit: int | None = None
    ) -> list[Event]:
        """Return the events after a number, in their order: of one subject, of some kinds, the first `limit`."""
        with _translated(reading=True), self._engine.connect() as connection:
            transaction = SqlTransaction(connection, self._tables)
            return transaction.events(after=after, subject=subject, kinds=kinds, limit=limit)

    def listen(self) -> FifoListener | PostgresListener:
        """Return what waits for the next events."""
        return self._signals.listen()

    def audited(self, subject: str) -> list[Entry]:
        """Return the audit entries of one subject, oldest first."""
        with _translated(reading=True), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables).audited(subject)

    def audit_trail(self) -> Iterator[audit.Entry]:
        """Go through the whole audit chain, first entry first, reading it a page at a time."""
        log = self._tables.audit_log
        page = self._audit_page(sa.select(log).order_by(log.c.seq).limit(AUDIT_PAGE))
        while page:
            yield from page
            after = sa.select(log).where(log.c.seq > page[-1].seq)
            page = self._audit_page(after.order_by(log.c.seq).limit(AUDIT_PAGE))

    def newest_audit(self, limit: int) -> list[audit.Entry]:
        """Return the last `limit` entries of the audit chain, oldest first."""
        log = self._tables.audit_log
        return self._audit_page(sa.select(log).order_by(log.c.seq.desc()).limit(limit))[::-1]

    def _audit_page(self, query: "sa.Select[Any]") -> list[audit.Entry]:
        with _translated(reading=True), self._engine.connect() as connection:
            return _entries(connection, query)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _commit(self, connection: sa.Connection, checkpoint: audit.Checkpoint | None) -> None:
        """Commit; when the answer is lost with the connection, look for what was written and never repeat it."""
        try:
            connection.commit()
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated or not self._was_recorded(checkpoint):
                raise

    def _was_recorded(self, checkpoint: audit.Checkpoint | None) -> bool:
        """Whether the audit entry of a commit is there; raise when there was none, or nobody answers in time."""
        log = self._tables.audit_log
        deadline = time.monotonic() + WAIT_S
        while checkpoint and time.monotonic() < deadline:
            try:
                with self._engine.connect() as connection:
                    # Who gets the lock knows that the lost transaction has ended, one way or the other.
                    self._dialect.lock(connection)
                    found = connection.scalar(sa.select(log.c.hash).where(log.c.seq == checkpoint.seq))
                    return bool(found == checkpoint.hash)
            except sa.exc.DBAPIError:
                time.sleep(0.1)
        raise DatabaseUnavailable(
            "the database went away while it recorded, and whether it did is not known",
            next='when it is back, look with "slipway status" before asking again',
        )


class SqlTransaction:
    """Fills ports.Transaction on one open connection.

    `checkpoint` is the last audit entry that it wrote, `emitted` says whether it wrote an event.
    """

    def __init__(self, connection: sa.Connection, tables: RecordTables) -> None:
        self._connection = connection
        self._tables = tables
        self.checkpoint: audit.Checkpoint | None = None
        self.emitted = False

    def new_id(self, kind: type[Record]) -> str:
        """Return the id after the greatest that a record of a kind ever had, whether or not it is still there."""
        prefix, sequences, ids = NAMES[kind][1], self._tables.sequences, self._tables[kind].c.id
        last = self._connection.scalar(sa.select(sequences.c.last).where(sequences.c.name == prefix)) or 0
        # An API of before sequences may have recorded while its tables were brought up to date.
        while self._connection.scalar(sa.select(ids).where(ids == f"{prefix}-{last + 1}")) is not None:
            last += 1
        return f"{prefix}-{last + 1}"

    def add(self, record: Record) -> None:
        """Store a new record."""
        self._connection.execute(self._tables[type(record)].insert().values(**row_of(record)))
        prefix, _, number = record.id.rpartition("-")
        if prefix == NAMES[type(record)][1] and number.isdecimal():
            self._connection.execute(_NUMBER_GIVEN, {"name": prefix, "number": int(number)})

    def put(self, record: Record) -> None:
        """Store a record, in place of the one with its id if there is one."""
        table = self._tables[type(record)]
        values = row_of(record)
        updated = self._connection.execute(table.update().where(table.c.id == record.id).values(**values))
        if updated.rowcount == 0:
            self._connection.execute(table.insert().values(**values))

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""
        found = self.find(kind, id=id)
        if not found:
            raise UsageError(
                f"no such entry {id[:40]!r} in {NAMES[kind][0]}",
                next='"make status" shows what is under way, "make history" what was released',
            )
        return found[0]

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""
        return self._read(kind, self._where(kind, equals).order_by(self._tables[kind].c.row))

    def newest(self, kind: type[R], limit: int, *, before: str | None = None, **equals: object) -> tuple[list[R], bool]:
        """Return the last records whose fields equal `equals`, oldest first, and whether there are older ones."""
        table = self._tables[kind]
        query = self._where(kind, equals).order_by(table.c.row.desc()).limit(limit + 1)
        if before is not None:
            self.get(kind, before)
            query = query.where(table.c.row < sa.select(table.c.row).where(table.c.id == before).scalar_subquery())
        found = self._read(kind, query)
        return found[:limit][::-1], len(found) > limit

    def _read(self, kind: type[R], query: "sa.Select[Any]") -> list[R]:
        with _readable(f"a row of {NAMES[kind][0]}"):
            return [record_of(kind, row) for row in self._connection.execute(query).mappings()]

    def _where(self, kind: type[Any], equals: Mapping[str, object]) -> "sa.Select[Any]":
        table = self._tables[kind]
        return sa.select(table).where(*(table.c[name] == sql_value(value) for name, value in equals.items()))

    def change(self, record: R, **values: object) -> R:
        """Store new values of some fields and return the new record."""
        changed = dataclasses.replace(record, **values)  # type: ignore[arg-type]
        table = self._tables[type(record)]
        # Only these columns: `record` may have been read before somebody else changed the others.
        columns = {name: value for name, value in row_of(changed).items() if name in values}
        self._connection.execute(table.update().where(table.c.id == record.id).values(**columns))
        return changed

    def audit(self, actor: str, action: str, phase: str, *, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Append one entry to the audit chain."""
        log = self._tables.audit_log
        newest = sa.select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)
        row = self._connection.execute(newest).first()
        previous = audit.Checkpoint(row.seq, row.hash) if row else None
        actor, action, phase, subject = map(sql_value, (actor, action, phase, subject))
        unplaced = audit.Entry(0, now(), actor, action, phase, subject, detail or {}, "", "")
        entry = audit.chained(previous, unplaced)
        self._connection.execute(log.insert().values(**row_of(entry)))
        self.checkpoint = audit.Checkpoint(entry.seq, entry.hash)

    def audited(self, subject: str) -> list[Entry]:
        """Return the audit entries of one subject, oldest first."""
        log = self._tables.audit_log
        query = sa.select(log).where(log.c.subject == sql_value(subject)).order_by(log.c.seq)
        return _entries(self._connection, query)

    def emit(
        self, kind: EventKind, *, subject: str, model: str | None = None, detail: dict[str, Any] | None = None
    ) -> None:
        """Append one event."""
        values = {"at": now(), "kind": kind, "model": model, "subject": subject}
        columns = {name: sql_value(value) for name, value in values.items()}
        self._connection.execute(self._tables.events.insert().values(**columns, detail=detail or {}))
        self.emitted = True

    def forget_progress(self, *, before: str, up_to: int, limit: int) -> int:
        """Remove the oldest lines of progress told before a time, of events up to a number; return how many."""
        table = self._tables.events
        told = sa.select(table.c.seq).where(
            table.c.kind == str(EventKind.PROGRESS_MADE), table.c.at < before, table.c.seq <= up_to
        )
        oldest = told.order_by(table.c.seq).limit(limit)
        return self._connection.execute(table.delete().where(table.c.seq.in_(oldest))).rowcount

    def newest_event(self) -> int:
        """Return the number of the newest event, 0 before the first."""
        return self._connection.scalar(sa.select(sa.func.max(self._tables.events.c.seq))) or 0

    def events(
        self, *, after: int = 0, subject: str | None = None, kinds: Collection[EventKind] = (), limit: int | None = None
    ) -> list[Event]:
        """Return the events after a number, in their order: of one subject, of some kinds, the first `limit`."""
        table = self._tables.events
        query = sa.select(table).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
        if subject is not None:
            query = query.where(table.c.subject == sql_value(subject))
        if kinds:
            query = query.where(table.c.kind.in_([str(kind) for kind in kinds]))
        return [event_of(row) for row in self._connection.execute(query).mappings()]


def _export(checkpoints: Checkpoints, checkpoint: audit.Checkpoint) -> None:
    try:
        checkpoints.export(checkpoint)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"recorded, but {error.message}", next=error.next) from error


def _entries(connection: sa.Connection, query: "sa.Select[Any]") -> list[Entry]:
    with _readable("an entry of the audit log"):
        return [Entry(**row) for row in connection.execute(query).mappings()]


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Raise Undecided for JSON that is none: the driver reads it whole, and does not say whose it is."""
    try:
        yield
    except ValueError as error:
        raise damaged(what, str(error)) from error


@contextmanager
def _translated(*, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        reason = str(error.__cause__ or error)[:200]
        # What SQLite calls by this very name, and by none of the kinds below it, is a file that is damaged.
        if type(error.__cause__) is sqlite3.DatabaseError:
            raise DatabaseUnavailable(f"the file of the database is damaged: {reason}", next=RESTORE_IT) from error
        if reading:
            raise DatabaseUnavailable(
                f"the database can't be read: {reason}", next='see "slipway doctor"; what was asked for before goes on'
            ) from error
        raise DatabaseUnavailable(
            f"the database can't record: {reason}",
            next='check free disk space and "slipway doctor", then run it again; nothing was changed',
        ) from error
