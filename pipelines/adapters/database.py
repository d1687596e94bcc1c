"""Slipway's own state in SQL: one table a record kind, and the append-only audit log.

The columns are the records' fields, so a record is the only description of its table. Every writer
takes the database's one write lock first: the audit chain can neither fork nor have a gap.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from pipelines.domain import audit, records
from pipelines.domain.records import Record
from pipelines.errors import DatabaseUnavailable, UsageError
from pipelines.ports import AuditHeads

R = TypeVar("R", bound=Record)

# Bumped with the tables; a database that says another has not got them yet.
SCHEMA_VERSION = 1

# Kind -> (table, prefix of its ids).
_TABLES: dict[type[Any], tuple[str, str]] = {
    records.PinnedVersion: ("pinned_versions", "v"),
    records.Evaluation: ("evaluations", "e"),
    records.Promotion: ("promotions", "p"),
    records.Approval: ("approvals", "a"),
    records.Rollback: ("rollbacks", "b"),
    records.ReleaseRecord: ("releases", "r"),
    records.PolicyChange: ("policies", "y"),
    records.Lease: ("leases", "l"),
    records.ExecutorSeat: ("executors", "x"),
    records.Progress: ("progress", "s"),
    records.Observation: ("observations", "o"),
}

_REFUSED = "BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END"
_APPEND_ONLY = (
    f"CREATE TRIGGER IF NOT EXISTS audit_log_no_update BEFORE UPDATE ON audit_log {_REFUSED}",
    f"CREATE TRIGGER IF NOT EXISTS audit_log_no_delete BEFORE DELETE ON audit_log {_REFUSED}",
    # REPLACE deletes the row it takes the place of without asking the trigger above.
    "CREATE TRIGGER IF NOT EXISTS audit_log_at_end_only BEFORE INSERT ON audit_log "
    f"WHEN NEW.seq != (SELECT coalesce(max(seq), 0) + 1 FROM audit_log) {_REFUSED}",
)


def now() -> str:
    """Return the current time as ISO 8601 UTC text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class SqlRecords:
    """Fills ports.Records over one SQLAlchemy URL, making missing tables."""

    def __init__(self, url: str, heads: AuditHeads) -> None:
        self._heads = heads
        self._metadata = sa.MetaData()
        self._tables = {kind: _table(self._metadata, kind, name) for kind, (name, _) in _TABLES.items()}
        self._log = _audit_table(self._metadata)
        self._engine = sa.create_engine(url, connect_args={"timeout": 15})
        sa.event.listen(self._engine, "connect", _configure_sqlite)
        with _translated(), self._engine.connect() as connection:
            # Who only reads must not wait for a writer.
            if connection.exec_driver_sql("PRAGMA user_version").scalar() != SCHEMA_VERSION:
                self._make_tables(connection)

    def _make_tables(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        self._metadata.create_all(connection)
        for trigger in _APPEND_ONLY:
            connection.exec_driver_sql(trigger)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()

    @contextmanager
    def write(self) -> Iterator["SqlTransaction"]:
        """Open a transaction under the write lock; export the new audit head after its commit."""
        with _translated(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            transaction = SqlTransaction(connection, self._tables, self._log)
            yield transaction
            connection.commit()
        if transaction.head is not None:
            _export(self._heads, transaction.head)

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""
        with _translated(), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables, self._log).get(kind, id)

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""
        with _translated(), self._engine.connect() as connection:
            return SqlTransaction(connection, self._tables, self._log).find(kind, **equals)

    def audit_trail(self) -> list[audit.Entry]:
        """Return the whole audit chain, first entry first."""
        with _translated(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(self._log).order_by(self._log.c.seq)).mappings()
            return [audit.Entry(**row) for row in rows]

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


class SqlTransaction:
    """Fills ports.Transaction on one open connection; `head` is the last audit entry it wrote."""

    def __init__(self, connection: sa.Connection, tables: dict[type[Any], sa.Table], log: sa.Table) -> None:
        self._connection = connection
        self._tables = tables
        self._log = log
        self.head: audit.Head | None = None

    def new_id(self, kind: type[Record]) -> str:
        """Return the next id of a kind; rows are never deleted, so their count is the last number."""
        count = self._connection.scalar(sa.select(sa.func.count()).select_from(self._tables[kind]))
        return f"{_TABLES[kind][1]}-{(count or 0) + 1}"

    def add(self, record: Record) -> None:
        """Store a new record."""
        self._connection.execute(self._tables[type(record)].insert().values(**_values(record)))

    def put(self, record: Record) -> None:
        """Store a record, in place of the one with its id if there is one."""
        table = self._tables[type(record)]
        values = _values(record)
        updated = self._connection.execute(table.update().where(table.c.id == record.id).values(**values))
        if updated.rowcount == 0:
            self._connection.execute(table.insert().values(**values))

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""
        found = self.find(kind, id=id)
        if not found:
            raise UsageError(f"no such entry {id[:40]!r} in {_TABLES[kind][0]}", next='see "slipway history"')
        return found[0]

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""
        table = self._tables[kind]
        query = sa.select(table).order_by(table.c.row)
        for name, value in equals.items():
            query = query.where(table.c[name] == value)
        return [_record(kind, row) for row in self._connection.execute(query).mappings()]

    def change(self, record: R, **values: object) -> R:
        """Store new values of some fields and return the new record."""
        changed = dataclasses.replace(record, **values)  # type: ignore[arg-type]
        table = self._tables[type(record)]
        # Only these columns: `record` may have been read before somebody else changed the others.
        columns = {name: value for name, value in _values(changed).items() if name in values}
        self._connection.execute(table.update().where(table.c.id == record.id).values(**columns))
        return changed

    def audit(self, actor: str, action: str, phase: str, *, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Append one entry to the audit chain."""
        newest = sa.select(self._log.c.seq, self._log.c.hash).order_by(self._log.c.seq.desc()).limit(1)
        row = self._connection.execute(newest).first()
        previous = audit.Head(row.seq, row.hash) if row else None
        unplaced = audit.Entry(0, now(), actor, action, phase, subject, detail or {}, "", "")
        entry = audit.chained(previous, unplaced)
        self._connection.execute(self._log.insert().values(**dataclasses.asdict(entry)))
        self.head = audit.Head(entry.seq, entry.hash)


def _plain(hint: Any) -> Any:
    """Return the type of a hint without its `| None`."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


# Field name -> type of each kind, without `| None`.
_FIELDS: dict[type[Any], dict[str, Any]] = {
    kind: {name: _plain(hint) for name, hint in typing.get_type_hints(kind).items()} for kind in _TABLES
}


def _table(metadata: sa.MetaData, kind: type[Any], name: str) -> sa.Table:
    columns = [sa.Column(field, _sql_type(hint), unique=field == "id") for field, hint in _FIELDS[kind].items()]
    return sa.Table(name, metadata, sa.Column("row", sa.Integer, primary_key=True), *columns)


def _audit_table(metadata: sa.MetaData) -> sa.Table:
    fields = [field.name for field in dataclasses.fields(audit.Entry)]
    columns = [sa.Column(name, sa.JSON if name == "detail" else sa.Text) for name in fields if name != "seq"]
    return sa.Table("audit_log", metadata, sa.Column("seq", sa.Integer, primary_key=True), *columns)


def _sql_type(kind: Any) -> Any:
    if typing.get_origin(kind) in (dict, list):
        return sa.JSON(none_as_null=True)
    return {int: sa.Integer, float: sa.Float, bool: sa.Boolean}.get(kind, sa.Text)


def _values(record: Record) -> dict[str, Any]:
    return {
        field.name: str(value) if isinstance(value := getattr(record, field.name), StrEnum) else value
        for field in dataclasses.fields(record)
    }


def _record(kind: type[R], row: sa.RowMapping) -> R:
    values = {}
    for name, hint in _FIELDS[kind].items():
        is_enum = isinstance(hint, type) and issubclass(hint, StrEnum)
        values[name] = hint(row[name]) if is_enum and row[name] is not None else row[name]
    return kind(**values)


def _export(heads: AuditHeads, head: audit.Head) -> None:
    try:
        heads.export(head)
    except OSError as error:
        raise DatabaseUnavailable(
            f"recorded, but the audit head {head.seq} could not be kept outside of the database: {error}",
            next="make room on the disk that holds SLIPWAY_HOME",
        ) from error


def _configure_sqlite(connection: Any, _: object) -> None:
    # Slipway opens its transactions itself: the driver's own habit would begin them too late.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
        raise DatabaseUnavailable(
            f"the database can't record: {str(error.__cause__ or error)[:200]}",
            next='check free disk space and "slipway doctor", then run it again; nothing was changed',
        ) from error
