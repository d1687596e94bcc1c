"""Makes roles and databases on a PostgreSQL server and changes passwords, as its superuser.

Everything here may be repeated. A password leaves this process as a SCRAM verifier, never as itself:
so the server's log, which quotes failed statements, can't hold one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from pipelines.errors import DatabaseUnavailable

CONNECT_S = 5


class PostgresAdmin:
    """A superuser's view of one server; `url` names any of its databases, usually `postgres`."""

    def __init__(self, url: str) -> None:
        location = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(
            location,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
            connect_args={"application_name": "slipway-admin", "connect_timeout": CONNECT_S},
        )

    def ensure_role(self, name: str, password: str) -> None:
        """Make a role that may log in and nothing else, or give the one there is this password."""
        with self._connected() as connection:
            role = _quoted(connection, name)
            known = sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name")
            if connection.scalar(known, {"name": name}) is None:
                connection.exec_driver_sql(f"CREATE ROLE {role}")
            rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            verifier = _scram_verifier(connection, name, password)
            connection.exec_driver_sql(f"ALTER ROLE {role} {rights} PASSWORD '{verifier}'")

    def ensure_database(self, name: str, owner: str, users: Sequence[str] = (), template: str = "template0") -> None:
        """Make a database, a copy of `template`, that only `owner` and `users` may connect to."""
        with self._connected() as connection:
            database, possessor = _quoted(connection, name), _quoted(connection, owner)
            known = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
            if connection.scalar(known, {"name": name}) is None:
                copied = _quoted(connection, template)
                connection.exec_driver_sql(f"CREATE DATABASE {database} OWNER {possessor} TEMPLATE {copied}")
            connection.exec_driver_sql(f"ALTER DATABASE {database} OWNER TO {possessor}")
            connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
            for user in users:
                connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {database} TO {_quoted(connection, user)}")

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise DatabaseUnavailable(
                f"the database server can't be prepared: {str(error.__cause__ or error)[:200]}",
                next="see that it runs and that the superuser's password is right, then do it again",
            ) from error


def _quoted(connection: sa.Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _scram_verifier(connection: sa.Connection, role: str, password: str) -> str:
    """Return what the server stores of a password, made here by the client library."""
    driver = connection.connection.driver_connection
    if driver is None:
        raise DatabaseUnavailable("the connection was closed", next="do it again")
    made: bytes = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return made.decode()
