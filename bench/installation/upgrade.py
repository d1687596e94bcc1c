"""How long the database of a large installation takes to be brought up to date, on SQLite and on PostgreSQL."""

import os
import pwd
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, free_ports
from pipelines.adapters.database.dialects import dialect_of
from pipelines.adapters.database.migration import migrate
from pipelines.adapters.database.records import SqlRecords, prepare_records, upgrade_file
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain import audit
from pipelines.errors import Undecided

VERSIONS = 1_000
AUDIT_ENTRIES = 100_000
PROGRESS_LINES = 20
# The oldest schema that is upgraded.
OLD_SCHEMA = 2
ROLE = "slipway"
LIMIT_S = 60.0
_AT = "2026-01-02T03:04:05.000+00:00"


def measure(place: Place) -> Measured:
    """Fill the oldest tables, upgrade them, and read the whole audit chain to its proof."""
    file = place.workdir / "slipway.db"
    figures = _upgraded(place, "sqlite", f"sqlite:///{file}", f"sqlite:///{file}")
    with _postgres() as server:
        owner = server.set(database="postgres")
        figures |= _upgraded(place, "postgres", _text(owner.set(username=ROLE)), _text(owner))
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(
        about=f"a database of schema {OLD_SCHEMA} with {VERSIONS:,} versions and {AUDIT_ENTRIES:,} audit entries is"
        " brought up to date, until it opens; then the audit chain is read and verified",
        figures=figures,
        limits=tuple(Limit(f"{kind}_upgrade_s", Bound.AT_MOST, LIMIT_S) for kind in ("sqlite", "postgres")),
    )


def _upgraded(place: Place, kind: str, url: str, owner_url: str) -> dict[str, float]:
    place.report_progress(f"filling tables on {kind}")
    _fill(owner_url)
    begun = time.monotonic()
    if url != owner_url:
        prepare_records(owner_url, ROLE)
    else:
        upgrade_file(url)
    records = SqlRecords(url, FileCheckpoints(place.workdir / f"{kind}.jsonl"))
    upgraded = time.monotonic()
    checked = audit.verify(records.audit_trail(), [])
    verified = time.monotonic()
    records.close()
    if (checked.valid, checked.entries) != (True, AUDIT_ENTRIES):
        raise Undecided(f"after the upgrade on {kind}: {checked.detail}")
    return {f"{kind}_upgrade_s": upgraded - begun, f"{kind}_verify_s": verified - upgraded}


def _fill(owner_url: str) -> None:
    url = sa.make_url(owner_url)
    dialect = dialect_of(url)
    engine = dialect.engine(url)
    with engine.connect() as connection:
        dialect.lock(connection)
        migrate(connection, 0, until=OLD_SCHEMA)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        connection.exec_driver_sql(
            "CREATE TABLE progress (row INTEGER, subject TEXT, step TEXT, message TEXT, at TEXT)"
        )
        tables = sa.MetaData()
        tables.reflect(connection)
        for name, rows in _rows().items():
            connection.execute(tables.tables[name].insert(), rows)
        said = {
            "sqlite": f"PRAGMA user_version = {OLD_SCHEMA}",
            "postgresql": f"COMMENT ON TABLE audit_log IS 'slipway schema {OLD_SCHEMA}'",
        }
        connection.exec_driver_sql(said[url.get_backend_name()])
        connection.commit()
    engine.dispose()


def _rows() -> dict[str, list[dict[str, Any]]]:
    numbers = range(1, VERSIONS + 1)
    common = {"model": "churn-model", "created_at": _AT}
    report = {"gates": [{"name": f"gate-{number}", "message": "PASS " * 20} for number in range(12)]}
    return {
        "evaluations": [
            {**common, "id": f"e-{n}", "version": str(n), "state": "done", "report": report} for n in numbers
        ],
        "promotions": [
            {**common, "id": f"p-{n}", "version": str(n), "state": "done", "evaluation_id": f"e-{n}"} for n in numbers
        ],
        "releases": [
            {**common, "id": f"r-{n}", "version": str(n), "state": "superseded", "environment": "production"}
            for n in numbers
        ],
        "progress": [
            {"row": PROGRESS_LINES * n + line, "subject": f"p-{n}", "step": f"K{line}", "message": "", "at": _AT}
            for n in numbers
            for line in range(PROGRESS_LINES)
        ],
        "audit_log": [vars(entry) for entry in _chain()],
    }


def _chain() -> Iterator[audit.Entry]:
    last: audit.Checkpoint | None = None
    for number in range(AUDIT_ENTRIES):
        detail = {"environment": "production", "version": str(number), "result": "serving"}
        unplaced = audit.Entry(0, _AT, "executor", "release.promotion", "outcome", f"r-{number}", detail, "", "")
        entry = audit.chained(last, unplaced)
        last = audit.Checkpoint(entry.seq, entry.hash)
        yield entry


@contextmanager
def _postgres() -> Iterator[sa.URL]:
    """Run a server of this machine's binaries; raise Undecided where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        raise Undecided("there is no PostgreSQL on this machine", next="apt install postgresql")
    binaries = found[-1] if found else Path(str(on_path)).parent
    # Not the place's own directory: the server's user could not enter it.
    home = Path(tempfile.mkdtemp(prefix="slipway-bench-postgres-"))
    user = next(user for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    prefix = as_user if os.geteuid() == 0 else []
    if prefix:
        os.chown(home, user.pw_uid, user.pw_gid)
    (port,) = free_ports(1)
    control = [*prefix, str(binaries / "pg_ctl"), "--pgdata", str(home / "data"), "--silent", "--wait"]
    try:
        made = ["--options", "--username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8"]
        subprocess.run([*control, *made, "initdb"], check=True, cwd="/", stdout=subprocess.DEVNULL)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        started = [*control, "--log", str(home / "log"), "--options", options, "start"]
        subprocess.run(started, check=True, cwd="/", stdout=subprocess.DEVNULL)
        url = sa.URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres")
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {ROLE} LOGIN")
        engine.dispose()
        try:
            yield url
        finally:
            subprocess.run([*control, "--mode", "fast", "stop"], check=True, cwd="/", stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(home)


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)
