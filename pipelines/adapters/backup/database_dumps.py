"""Dumps of an installation's databases, made and loaded by PostgreSQL's own tools inside of its container.

They speak to the server on its socket, as who runs it: no password leaves its place.
"""

from collections.abc import Callable
from pathlib import Path

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Undecided

SUPERUSER = "postgres"
_AS = ("--username", SUPERUSER, "--no-password")
_SHOWN = 500
_LIMIT_S = 4 * 3600.0


class DatabaseDumps:
    """The server that runs as the service `service`; a dump is one moment of one database, in the server's own form."""

    def __init__(self, engine: DockerEngine, service: str) -> None:
        self._engine = engine
        self._service = service

    def dump(self, database: str, file: Path) -> None:
        """Write a dump of a database; raise Undecided when it does not become whole."""
        command = ["pg_dump", *_AS, "--format", "custom", "--compress", "none", "--dbname", database]
        with file.open("wb") as out:
            self._run(command, f"a dump of the database {database}", out.write)

    def load(self, database: str, dump: str) -> None:
        """Load a dump, a path inside of the container, into an empty database, whole or not at all."""
        command = ["pg_restore", *_AS, "--exit-on-error", "--single-transaction", "--dbname", database, dump]
        self._run(command, f"loading the database {database}")

    def ask(self, database: str, query: str) -> str:
        """Return what a query answers, a line for each row."""
        told = bytearray()
        command = ["psql", *_AS, "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", database]
        self._run([*command, "--command", query], f"a query of the database {database}", told.extend)
        return told.decode(errors="replace")

    def remove(self, folder: str) -> None:
        """Remove a folder inside of the container."""
        self._run(["rm", "-rf", folder], f"removing {folder}")

    def _run(self, command: list[str], what: str, keep: Callable[[bytes], object] = len) -> None:
        status, errors = self._engine.stream_inside(self._service, command, keep, limit_s=_LIMIT_S)
        if status:
            raise Undecided(f"{what} failed: {errors.strip()[-_SHOWN:]}", next='see "slipway logs", then do it again')
