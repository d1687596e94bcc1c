"""What every supervisor of records must do, asked of SQLite and of a real PostgreSQL."""

import dataclasses
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.audit import verify
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import (
    AddedSet,
    Approval,
    Evaluation,
    Feedback,
    FurtherModel,
    LeaderLease,
    Lease,
    LiveDrift,
    LiveWindow,
    Maintenance,
    ModelState,
    Observation,
    PinnedVersion,
    PolicyChange,
    Promotion,
    Record,
    ReleaseRecord,
    RequestLog,
    Rollback,
    Subscriber,
)
from pipelines.domain.release import Environment
from pipelines.errors import DatabaseUnavailable, UsageError
from tests.support.servers.databases import Place
from tests.support.world.records import (
    NOW,
    add,
    checkpoint_of,
    evaluation,
    policy,
    policy_body,
    promotion,
    release,
    report,
)

ROOT = Path(__file__).resolve().parent.parent.parent
PROCESSES, THREADS = 4, 25
COLUMNS = "at, 'mallory', action, phase, subject, detail, prev_hash, hash"

FULL: list[Record] = [
    PinnedVersion("toy-model/2", "toy-model", "2", "sha256:b", "sha256:e", NOW),
    evaluation(
        report=report(policy=policy()), override_gates=["slo"], override_reason="w\u00e9 know", error={"a": [1]}
    ),
    promotion(state=RunState.DONE, expires_at=NOW, release_id="r-1", archived="1", override_gates=["slo", "parity"]),
    Approval("a-1", "p-1", "bob", approved=False, reason="no", evidence={"version": "2"}, at=NOW),
    Rollback("b-1", "toy-model", Environment.STAGING, "alice", NOW, error={"code": "x"}),
    release(state=ReleaseState.ROLLED_BACK, restores="r-0", evidence={"n": 1.5, "none": None, "deep": {"yes": True}}),
    PolicyChange("y-1", "sha256:p", policy_body(), "alice", NOW),
    AddedSet("s-1", "toy-model", "hard", "sha256:h", "run", "alice", NOW, RunState.DONE, 3, 120, {"code": "x"}, NOW),
    Maintenance("c-1", "toy-model", "up", "alice", NOW, held_at=NOW, error={"code": "x"}),
    Lease("toy-model/production", None, 7, "x1", NOW),
    LeaderLease("executor", "x1", 12, 1767323045.25, NOW, "host-1", NOW),
    Subscriber("notifications", 7),
    FurtherModel("further-model", "alice", NOW, state=ModelState.ARCHIVED, archived_at=NOW),
    Observation("toy-model/production", None, "2", [{"name": "live-1", "ready": True}], None, NOW),
    RequestLog(
        "toy-model/production", "toy-model", Environment.PRODUCTION, {"task": "binary"}, {"b": {"seen": 1}}, NOW
    ),
    LiveWindow(
        "toy-model/production/2026-01-02/2",
        "toy-model",
        Environment.PRODUCTION,
        "2",
        "2026-01-02",
        seen=9,
        kept=5,
        dropped=1,
        lost=1,
        scores={"bins": [1, 0]},
        at=NOW,
        quality={"accuracy": 0.5},
    ),
    LiveDrift(
        "toy-model/production",
        "toy-model",
        Environment.PRODUCTION,
        asked=3,
        answered=2,
        drifted=True,
        look={"seen": "drifted"},
        history=[{"seen": "alike"}, {"seen": "drifted"}],
    ),
    Feedback("f-1", "toy-model", "alice", "sha256:f", 1, [{"request_id": "r"}], NOW, RunState.DONE, NOW),
]
BARE: list[Record] = [
    evaluation(report=None, state=RunState.REQUESTED, bundle_digest=None),
    FurtherModel("further-model", "alice", NOW),
    promotion(),
    Rollback("b-1", "toy-model", Environment.PRODUCTION, "alice", NOW),
    release(),
    LiveDrift("toy-model/production", "toy-model", Environment.PRODUCTION),
    Feedback("f-1", "toy-model", "alice", "sha256:f", 1, [{"request_id": "r"}], NOW),
]


@pytest.mark.parametrize("record", [*FULL, *BARE], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was_stored(records: SqlRecords, record: Any) -> None:
    add(records, record)

    assert records.get(type(record), record.id) == record


def test_every_kind_of_record_is_covered_here() -> None:
    assert {type(record) for record in FULL} == set(Record.__args__)


def test_records_survive_a_new_start(records: SqlRecords, place: Place) -> None:
    add(records, *FULL)
    records.close()

    with place.opened() as again:
        assert [again.get(type(record), record.id) for record in FULL] == FULL


def test_put_stores_a_record_once_and_then_in_its_own_place(records: SqlRecords) -> None:
    first, other = Lease("a", "p-1", 1, "x1", NOW), Lease("b", "p-2", 1, "x1", NOW)
    changed = Lease("a", None, 2, "x2", NOW)
    with records.write() as transaction:
        for lease in (first, other, changed):
            transaction.put(lease)

    assert records.find(Lease) == [changed, other]


def test_find_compares_every_field_it_is_given_and_keeps_the_order_of_adding(records: SqlRecords) -> None:
    add(records, release("r-1"), release("r-2", state=ReleaseState.FAILED), release("r-3"), release("r-10"))

    serving = records.find(ReleaseRecord, state=ReleaseState.SERVING, environment=Environment.PRODUCTION)

    assert [found.id for found in serving] == ["r-1", "r-3", "r-10"]
    assert records.find(ReleaseRecord, environment=Environment.STAGING) == []


def test_find_can_ask_for_what_is_not_set(records: SqlRecords) -> None:
    add(records, Lease("a", None, 1, "x1", NOW), Lease("b", "p-1", 1, "x1", NOW))

    assert [lease.id for lease in records.find(Lease, holder=None)] == ["a"]


def test_a_record_that_is_not_there_is_refused_by_name(records: SqlRecords) -> None:
    with pytest.raises(UsageError, match="p-99"):
        records.get(Promotion, "p-99")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_not_every_database_can_keep_is_refused(records: SqlRecords, text: str) -> None:
    with pytest.raises(UsageError, match="can't be kept"):
        add(records, promotion(error={"code": "x"}, archived=text))
    with pytest.raises(UsageError, match="can't be kept"):
        records.get(Promotion, text)
    with pytest.raises(UsageError, match="can't be kept"), records.write() as transaction:
        transaction.audit("alice", "test", "intent", subject=text)

    assert (records.find(Promotion), list(records.audit_trail())) == ([], [])


def test_change_writes_the_named_fields_only(records: SqlRecords) -> None:
    add(records, promotion())
    stale = records.get(Promotion, "p-1")
    with records.write() as transaction:
        transaction.change(transaction.get(Promotion, "p-1"), expires_at="later")

    with records.write() as transaction:
        transaction.change(stale, state=RunState.APPROVED)

    stored = records.get(Promotion, "p-1")
    assert (stored.state, stored.expires_at) == (RunState.APPROVED, "later")


def test_change_can_clear_a_field(records: SqlRecords) -> None:
    add(records, Lease("a", "p-1", 1, "x1", NOW))

    with records.write() as transaction:
        returned = transaction.change(transaction.get(Lease, "a"), holder=None)

    assert returned == records.get(Lease, "a") == Lease("a", None, 1, "x1", NOW)


def test_ids_count_upwards_for_each_kind(records: SqlRecords) -> None:
    with records.write() as transaction:
        assert [transaction.new_id(Promotion), transaction.new_id(Evaluation)] == ["p-1", "e-1"]
        transaction.add(promotion())
        assert [transaction.new_id(Promotion), transaction.new_id(Evaluation)] == ["p-2", "e-1"]


def test_an_error_takes_back_the_whole_transaction_with_its_audit_and_head(records: SqlRecords, place: Place) -> None:
    add(records, promotion())

    with pytest.raises(RuntimeError), records.write() as transaction:
        transaction.change(transaction.get(Promotion, "p-1"), state=RunState.DONE)
        transaction.add(promotion("p-2"))
        transaction.audit("alice", "promotion", "intent", subject="p-2")
        raise RuntimeError("in the middle")

    assert records.find(Promotion) == [promotion()]
    assert list(records.audit_trail()) == []
    assert place.checkpoints.checkpoints() == []


def test_the_same_id_twice_is_refused(records: SqlRecords) -> None:
    add(records, promotion())

    with pytest.raises(DatabaseUnavailable):
        add(records, promotion())

    assert records.find(Promotion) == [promotion()]


def test_audit_entries_make_a_chain_whose_head_is_exported_after_the_commit(records: SqlRecords, place: Place) -> None:
    checkpoints = place.checkpoints
    with records.write() as transaction:
        transaction.audit("alice", "promotion", "intent", subject="p-1", detail={"n": 1})
        transaction.audit("bob", "promotion.approve", "outcome", subject="p-1")
        assert checkpoints.checkpoints() == []
    with records.write() as transaction:
        transaction.audit("executor", "release", "intent", subject="r-1")

    trail = list(records.audit_trail())
    assert [(entry.seq, entry.actor, entry.detail) for entry in trail] == [
        (1, "alice", {"n": 1}),
        (2, "bob", {}),
        (3, "executor", {}),
    ]
    assert [checkpoint.seq for checkpoint in checkpoints.checkpoints()] == [2, 3]
    assert verify(trail, checkpoints.checkpoints()).valid


def test_a_transaction_without_audit_exports_no_head(records: SqlRecords, place: Place) -> None:
    add(records, promotion())

    assert place.checkpoints.checkpoints() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'mallory'",
        "UPDATE audit_log SET detail = '{}' WHERE seq = 2",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE seq = 2",
        f"INSERT INTO audit_log SELECT seq + 9, {COLUMNS} FROM audit_log",
        f"INSERT INTO audit_log SELECT seq, {COLUMNS} FROM audit_log WHERE true "
        "ON CONFLICT (seq) DO UPDATE SET actor = 'mallory'",
    ],
)
def test_the_audit_log_refuses_every_change_even_to_its_owner(
    records: SqlRecords, place: Place, statement: str
) -> None:
    write_entries(records, 2)
    before = list(records.audit_trail())

    with pytest.raises((sqlite3.DatabaseError, psycopg.Error), match="append-only"):
        place.execute(statement, owner=True)

    assert list(records.audit_trail()) == before


def test_an_owner_who_drops_the_triggers_is_found_by_the_verifier(records: SqlRecords, place: Place) -> None:
    write_entries(records, 3)
    sqlite = place.url.startswith("sqlite")
    dropped = "audit_log_no_update" if sqlite else "audit_log_no_change ON audit_log"

    place.execute(f"DROP TRIGGER {dropped}", "UPDATE audit_log SET actor = 'mallory' WHERE seq = 2", owner=True)

    assert verify(records.audit_trail(), place.checkpoints.checkpoints()).first_bad == 2


def test_two_writers_wait_for_each_other(records: SqlRecords) -> None:
    began, ended = threading.Event(), threading.Event()

    def write_second() -> None:
        began.set()
        with records.write() as transaction:
            transaction.audit("bob", "test", "intent", subject="second")
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        with records.write() as transaction:
            second = pool.submit(write_second)
            assert began.wait(10)
            assert not ended.wait(0.5)
            transaction.audit("alice", "test", "intent", subject="first")
        second.result(timeout=10)

    assert [entry.subject for entry in records.audit_trail()] == ["first", "second"]


def test_who_only_reads_does_not_wait_for_a_writer(records: SqlRecords, place: Place) -> None:
    add(records, promotion())

    with records.write() as transaction:
        transaction.change(promotion(), state=RunState.DONE)
        with place.opened() as reader:
            assert reader.find(Promotion) == [promotion()]


def test_a_hundred_audit_writers_of_which_some_are_killed_make_one_chain_without_a_gap(
    records: SqlRecords, place: Place, tmp_path: Path
) -> None:
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    processes = [start_writers(place, acknowledged, f"process-{number}") for number in range(PROCESSES)]
    for number, process in enumerate(processes[:2]):
        await_line(acknowledged, f"process-{number} ", process)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
    processes += [start_writers(place, acknowledged, f"process-{number}") for number in (PROCESSES, PROCESSES + 1)]
    codes = []
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), errors
        codes.append(process.returncode)
    assert codes.count(0) >= PROCESSES

    trail = list(records.audit_trail())
    written = [f"{entry.actor} {entry.subject}" for entry in trail]
    heard = acknowledged.read_text().splitlines()
    assert len(heard) >= PROCESSES * THREADS
    assert set(heard) <= set(written)
    assert len(set(written)) == len(written)
    assert [entry.seq for entry in trail] == list(range(1, len(trail) + 1))
    assert len({entry.prev_hash for entry in trail}) == len(trail)
    checked = verify(trail, place.checkpoints.checkpoints())
    assert checked.valid, checked.detail


def test_sixty_threads_of_one_process_wait_for_each_other(records: SqlRecords) -> None:
    def write(number: int) -> None:
        with records.write() as transaction:
            transaction.add(Subscriber(transaction.new_id(Subscriber), number))
            transaction.emit(EventKind.PROGRESS_MADE, subject=str(number))
            transaction.audit("alice", "test", "intent", subject=str(number))

    with ThreadPoolExecutor(60) as pool:
        list(pool.map(write, range(60)))

    assert [kept.id for kept in records.find(Subscriber)] == [f"u-{number}" for number in range(1, 61)]
    assert [event.seq for event in records.events()] == list(range(1, 61))
    assert verify(records.audit_trail(), [checkpoint_of(records)]).entries == 60


def test_the_fields_of_a_record_are_the_columns_of_its_table(place: Place, records: SqlRecords) -> None:
    asked = "SELECT name FROM pragma_table_info('releases')"
    if place.url.startswith("postgresql"):
        asked = (
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'releases' ORDER BY ordinal_position"
        )

    columns = [row[0] for row in place.execute(asked)]

    assert columns == ["row", *(field.name for field in dataclasses.fields(ReleaseRecord))]


def write_entries(records: SqlRecords, count: int) -> None:
    for number in range(1, count + 1):
        with records.write() as transaction:
            transaction.audit("alice", "promotion", "intent", subject=f"p-{number}")


def start_writers(place: Place, acknowledged: Path, name: str) -> "subprocess.Popen[str]":
    program = """
        import os
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from pipelines.adapters.database.records import SqlRecords
        from pipelines.adapters.storage.checkpoints_file import FileCheckpoints

        url, checkpoints, acknowledged, name, threads = sys.argv[1:]
        records = SqlRecords(url, FileCheckpoints(Path(checkpoints)))
        output = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)

        def write(number):
            with records.write() as transaction:
                transaction.audit(name, "test", "intent", subject=str(number))
            os.write(output, f"{name} {number}\\n".encode())

        with ThreadPoolExecutor(int(threads)) as pool:
            list(pool.map(write, range(int(threads))))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), place.url, str(place.checkpoints_file)]
    return subprocess.Popen(
        [*command, str(acknowledged), name, str(THREADS)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def await_line(path: Path, beginning: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not any(line.startswith(beginning) for line in path.read_text().splitlines()):
        assert time.monotonic() < deadline and process.poll() is None, f"no line {beginning!r}, exit {process.poll()}"
        time.sleep(0.005)
