"""Records that can't be written, and an audit that its owner edits."""

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults.grounds import Grounds
from bench.faults.scenario import NotInjected, Scenario, expect
from bench.faults.small_disk import filled
from bench.support.replicas import kill_replica
from pipelines.domain.audit import GENESIS, Entry, entry_hash

FULL_S = 6.0
LOCKED_S = 25.0
# A step and the journal are retried for a minute, and a journal that was cut off holds its lock for two waits.
MENDED_S = 120.0
KEPT = ("slipway.db", "audit-heads.jsonl", "installation.json", "tokens.json")


def disk_full_in_a_release(grounds: Grounds) -> str:
    """Fill the disk while a release goes on, and kill a replica; with room again the release is finished or undone."""
    if grounds.disk is None:
        raise NotInjected("only root can mount a disk that is small enough to fill")
    grounds.make_way_back()
    before = grounds.serving()
    grounds.end_executor()
    with grounds.executor(SLIPWAY_FAULT="K4:freeze") as executor:
        asking = grounds.roll_back()
        grounds.await_that(lambda: executor.is_frozen, "the executor to freeze at K4")
        with filled(grounds.disk):
            executor.wake()
            victim = grounds.replicas.ready()[0]
            kill_replica(victim)
            grounds.replicas.await_ready(without=victim)
            time.sleep(FULL_S)
            expect(grounds.serving() is not None, "production does not answer while the disk is full")
        grounds.await_that(
            lambda: not grounds.slipway.read("status")["unfinished"],
            "the release to be finished or undone once there is room",
            MENDED_S,
        )
        asking.communicate(timeout=MENDED_S)
        expect(not executor.has_ended, f"the executor ended: {executor.said()[-300:]}")
        # As the executor that `up` started: it leaves by itself, and its successor begins at once.
    grounds.mend()
    return f"rollback from v{before} ended with {asking.returncode}, v{grounds.serving()} serves"


def database_away_in_a_release(grounds: Grounds) -> str:
    """Hold the database's write lock for longer than a writer waits."""
    grounds.make_way_back()
    before = grounds.serving()
    asking = grounds.roll_back()
    time.sleep(1.0)
    database = sqlite3.connect(grounds.slipway.home / "slipway.db", timeout=30, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(LOCKED_S)
    finally:
        database.close()
    grounds.await_that(
        lambda: not grounds.slipway.read("status")["unfinished"], "the release to be finished or undone", MENDED_S
    )
    asking.communicate(timeout=MENDED_S)
    return f"rollback from v{before} ended with {asking.returncode}, v{grounds.serving()} serves"


def audit_edited(grounds: Grounds) -> str:
    """Edit copies: each edit is found and named, an old backup and a rewritten chain by the checkpoints outside."""
    middle = grounds.slipway.read("audit", "--limit", "1")["entries"][-1]["seq"] // 2
    edits: dict[str, tuple[Callable[[sqlite3.Connection], None], str]] = {
        "updated": (_sql(f"UPDATE audit_log SET actor = 'nobody' WHERE seq = {middle}"), f"entry {middle} "),
        "middle deleted": (_sql(f"DELETE FROM audit_log WHERE seq = {middle}"), f"entry {middle} "),
        "swapped": (lambda database: _swap(database, middle), f"entry {middle} "),
        "last deleted": (_sql("DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)"), "checkpoint"),
        "old backup": (_sql(f"DELETE FROM audit_log WHERE seq > {middle}"), "checkpoint"),
        "whole rewritten": (lambda database: _rewrite(database, middle), "checkpoint"),
    }
    for what, (edit, named) in edits.items():
        told = _i4_of_copy(grounds, edit)
        expect(told["holds"] is False, f"{what}: called valid: {told['detail']}")
        expect(named in told["detail"], f"{what}: {named!r} is not named: {told['detail']}")
    return f"found and named: {', '.join(edits)}"


def _i4_of_copy(grounds: Grounds, edit: Callable[[sqlite3.Connection], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "home"
        copy.mkdir(mode=0o700)
        home = grounds.slipway.home
        for name in KEPT[1:]:
            if (home / name).exists():
                shutil.copy2(home / name, copy / name)
        with sqlite3.connect(home / KEPT[0]) as original, sqlite3.connect(copy / KEPT[0]) as copied:
            original.backup(copied)
        original.close()
        copied.close()
        database = sqlite3.connect(copy / KEPT[0])
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        edit(database)
        database.commit()
        database.close()
        ended = grounds.slipway.slipway("doctor", "--json", SLIPWAY_HOME=str(copy))
        found = {each["id"]: each for each in json.loads(ended.stdout)["invariants"]}
        i4: dict[str, Any] = found["I4"]
        return i4


def _sql(statement: str) -> Callable[[sqlite3.Connection], None]:
    def edit(database: sqlite3.Connection) -> None:
        database.execute(statement)

    return edit


def _swap(database: sqlite3.Connection, seq: int) -> None:
    for old, new in ((seq, -1), (seq + 1, seq), (-1, seq + 1)):
        database.execute("UPDATE audit_log SET seq = ? WHERE seq = ?", (new, old))


def _rewrite(database: sqlite3.Connection, first: int) -> None:
    """Change an entry and chain all that follow anew, as somebody does who knows how the chain is made."""
    columns = "seq, at, actor, action, phase, subject, detail, prev_hash, hash"
    rows = database.execute(f"SELECT {columns} FROM audit_log ORDER BY seq").fetchall()
    previous = GENESIS
    for row in rows:
        values: list[Any] = [*row[:6], json.loads(row[6]), previous, ""]
        entry = Entry(*values)
        if entry.seq == first:
            entry = Entry(**{**vars(entry), "actor": "nobody"})
        previous = entry_hash(entry)
        database.execute(
            "UPDATE audit_log SET actor = ?, prev_hash = ?, hash = ? WHERE seq = ?",
            (entry.actor, entry.prev_hash, previous, entry.seq),
        )


SCENARIOS = (
    Scenario("disk full in a release", disk_full_in_a_release, spares=False),
    Scenario("database away in a release", database_away_in_a_release),
    Scenario("audit edited", audit_edited),
)
