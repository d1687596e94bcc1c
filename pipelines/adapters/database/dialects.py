"""What SQLite and PostgreSQL need said differently; everything else about Slipway's state is said once.

Both keep the same promises: one writer at a time, so that audit entries and events are numbered in the order of their
commits; an audit log that only grows; waits that end.
"""

import re
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from pipelines.adapters.database.migration import MIGRATION_S, SCHEMA, migrate, refuse_newer
from pipelines.adapters.database.signals import FifoSignals, PostgresSignals
from pipelines.adapters.database.tables import AUDIT_LOG, EVENTS, SCHEMA_VERSION
from pipelines.errors import OlderTables, UsageError

# A writer waits so long for the one before it; a writer that stops moving is cut off after as long.
WAIT_S = 15
CONNECT_S = 5

# Any number does, as long as every Slipway takes the same.
_WRITE_LOCK = int.from_bytes(b"slipway")
_NO_TABLES = -1
_BOUNDS = (
    f"-c lock_timeout={WAIT_S}s -c idle_in_transaction_session_timeout={WAIT_S}s "
    f"-c statement_timeout={4 * WAIT_S}s -c search_path=public"
)

_SQLITE_REFUSED = "BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END"
_SQLITE_APPEND_ONLY = (
    f"CREATE TRIGGER IF NOT EXISTS audit_log_no_update BEFORE UPDATE ON audit_log {_SQLITE_REFUSED}",
    f"CREATE TRIGGER IF NOT EXISTS audit_log_no_delete BEFORE DELETE ON audit_log {_SQLITE_REFUSED}",
    # REPLACE deletes the row it takes the place of without asking the trigger above.
    "CREATE TRIGGER IF NOT EXISTS audit_log_at_end_only BEFORE INSERT ON audit_log "
    f"WHEN NEW.seq != (SELECT coalesce(max(seq), 0) + 1 FROM audit_log) {_SQLITE_REFUSED}",
)

# Events are never changed; old lines of progress are removed.
_RIGHTS = {AUDIT_LOG: "SELECT, INSERT", EVENTS: "SELECT, INSERT, DELETE"}

# pg_temp comes last, or a temporary table named audit_log would be asked for the last entry.
_POSTGRES_FUNCTION = "RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS"
_POSTGRES_APPEND_ONLY = (
    f"CREATE OR REPLACE FUNCTION refuse_audit_change() {_POSTGRES_FUNCTION} "
    "$$ BEGIN RAISE EXCEPTION 'audit_log is append-only'; END $$",
    f"CREATE OR REPLACE FUNCTION refuse_audit_gap() {_POSTGRES_FUNCTION} "
    "$$ BEGIN IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), 0) + 1 FROM audit_log) THEN "
    "RAISE EXCEPTION 'audit_log is append-only'; END IF; RETURN NEW; END $$",
    "CREATE OR REPLACE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()",
    "CREATE OR REPLACE TRIGGER audit_log_at_end_only BEFORE INSERT ON audit_log "
    "FOR EACH ROW EXECUTE FUNCTION refuse_audit_gap()",
)


class Dialect(Protocol):
    """What one kind of database does in its own way."""

    def engine(self, url: sa.URL) -> sa.Engine:
        """Return an engine whose waits end."""

    def open(self, connection: sa.Connection) -> None:
        """See that the tables are there and the audit log is safe; raise OlderTables, or UsageError."""

    def lock(self, connection: sa.Connection) -> None:
        """Begin a transaction that holds the one write lock to its end."""

    def signals(self, url: sa.URL) -> FifoSignals | PostgresSignals:
        """Return how the processes of a database tell each other that events were committed."""


class SqliteDialect:
    """One file, whose owner is whoever runs Slipway."""

    def engine(self, url: sa.URL) -> sa.Engine:
        """Return an engine that opens its transactions by itself."""
        engine = sa.create_engine(url, connect_args={"timeout": WAIT_S})
        sa.event.listen(engine, "connect", _configure_sqlite)
        return engine

    def open(self, connection: sa.Connection) -> None:
        """Make the tables of an empty database; raise OlderTables, or UsageError for those of a newer Slipway."""
        version = self._version(connection)
        refuse_newer(version)
        # Who only reads must not wait for a writer.
        if version == SCHEMA_VERSION:
            return
        # Processes of the older Slipway may be at work on them.
        if connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first() and self._is_older(connection):
            raise older_tables(version)
        self.make(connection)

    def make(self, connection: sa.Connection) -> None:
        """Bring the tables up to date, while no process of an older Slipway uses them; raise UsageError for newer ones.

        Several may do it at once: one does, the others wait and find it done.
        """
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {MIGRATION_S * 1000}")
        self.lock(connection)
        migrate(connection, self._version(connection))
        for trigger in _SQLITE_APPEND_ONLY:
            connection.exec_driver_sql(trigger)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {WAIT_S * 1000}")

    def _is_older(self, connection: sa.Connection) -> bool:
        """Look once more: what makes the tables of an empty database commits them with their version."""
        return self._version(connection) < SCHEMA_VERSION

    def _version(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def lock(self, connection: sa.Connection) -> None:
        """Take the file's write lock."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def signals(self, url: sa.URL) -> FifoSignals:
        """Use FIFOs beside the file: its processes are on one machine."""
        return FifoSignals(Path(f"{url.database}-signals"))


class PostgresDialect:
    """A server where one role owns the tables and another, the application's, uses them."""

    def engine(self, url: sa.URL) -> sa.Engine:
        """Return an engine that asks a pooled connection whether it still lives before using it."""
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_timeout=WAIT_S,
            connect_args={
                "application_name": "slipway",
                "connect_timeout": CONNECT_S,
                "tcp_user_timeout": WAIT_S * 1000,
                "options": _BOUNDS,
            },
        )

    def make(self, connection: sa.Connection, metadata: sa.MetaData, role: str) -> None:
        """Bring the tables up to date as their owner, and give `role` what the application needs and no more.

        Raises UsageError for the tables of a newer Slipway.
        """
        quote = connection.dialect.identifier_preparer.quote_identifier
        for bound in ("lock_timeout", "statement_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {bound} = '{MIGRATION_S}s'")
        self.lock(connection)
        migrate(connection, self._version(connection))
        for statement in _POSTGRES_APPEND_ONLY:
            connection.exec_driver_sql(statement)
        for table in metadata.sorted_tables:
            rights = _RIGHTS.get(table.name, "SELECT, INSERT, UPDATE")
            connection.exec_driver_sql(f"REVOKE ALL ON {table.name} FROM PUBLIC, {quote(role)}")
            connection.exec_driver_sql(f"GRANT {rights} ON {table.name} TO {quote(role)}")
        connection.exec_driver_sql(f"COMMENT ON TABLE {AUDIT_LOG} IS '{SCHEMA}{SCHEMA_VERSION}'")
        connection.commit()

    def open(self, connection: sa.Connection) -> None:
        """Refuse a database without tables of this version, and a role that could change the audit log."""
        version = self._version(connection)
        refuse_newer(version)
        if version < SCHEMA_VERSION:
            raise older_tables(version)
        rights = sa.text(f"SELECT current_user, has_table_privilege('{AUDIT_LOG}', 'UPDATE, DELETE, TRUNCATE')")
        role, may_change = connection.execute(rights).one()
        if may_change:
            raise UsageError(
                f"the database role {role!r} may change the audit log",
                next="connect as the application's role, which may only add to it",
            )

    def _version(self, connection: sa.Connection) -> int:
        """Return the version of the tables, -1 where there are none, or none that say it."""
        found = sa.text(f"SELECT obj_description(to_regclass('public.{AUDIT_LOG}'), 'pg_class')")
        said = re.fullmatch(f"{SCHEMA}([0-9]+)", connection.scalar(found) or "")
        return int(said[1]) if said else _NO_TABLES

    def lock(self, connection: sa.Connection) -> None:
        """Take the lock that every writer takes; the application's role has no right to lock a table."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")

    def signals(self, url: sa.URL) -> PostgresSignals:
        """Use the server's own."""
        return PostgresSignals(url)


def older_tables(version: int) -> OlderTables:
    """Return the refusal to work on the tables of an older Slipway, or on none."""
    return OlderTables(
        f"the database has {'no tables' if version == _NO_TABLES else f'{SCHEMA}{version}'}, "
        f"this Slipway needs {SCHEMA}{SCHEMA_VERSION}",
        next='"make up" brings them up to date: see what "slipway logs" says of tables, then "make up" again',
    )


def dialect_of(url: sa.URL) -> SqliteDialect | PostgresDialect:
    """Return the dialect of a database URL, or raise UsageError."""
    name = url.get_backend_name()
    if name == "sqlite":
        return SqliteDialect()
    if name == "postgresql":
        return PostgresDialect()
    raise UsageError(f"no records in {name!r}", next="give a URL that begins with sqlite:// or postgresql://")


def _configure_sqlite(connection: Any, _: object) -> None:
    # Slipway opens its transactions itself: the driver's own habit would begin them too late.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
