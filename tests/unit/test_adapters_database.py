import dataclasses
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.audit_file import FileAuditHeads
from pipelines.adapters.database import SqlRecords
from pipelines.domain.audit import verify
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import (
    Approval,
    Evaluation,
    ExecutorSeat,
    Lease,
    Observation,
    PinnedVersion,
    PolicyChange,
    Progress,
    Promotion,
    Record,
    ReleaseRecord,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.errors import DatabaseUnavailable, UsageError
from tests.records import NOW, add, evaluation, head_of, policy, policy_body, promotion, release, report

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
    Lease("toy-model/production", None, 7, "x1", NOW),
    ExecutorSeat("executor", "x1", 12, 1767323045.25, NOW),
    Progress("s-1", "p-1", "K5", "line", NOW),
    Observation("toy-model/production", None, "2", [{"name": "live-1", "ready": True}], None, NOW),
]
BARE: list[Record] = [
    evaluation(report=None, state=RunState.REQUESTED, bundle_digest=None),
    promotion(),
    Rollback("b-1", "toy-model", Environment.PRODUCTION, "alice", NOW),
    release(),
]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = open_records(tmp_path)
    yield opened
    opened.close()


def open_records(home: Path) -> SqlRecords:
    return SqlRecords(f"sqlite:///{home / 'slipway.db'}", FileAuditHeads(home / "heads.jsonl"))


@pytest.mark.parametrize("record", [*FULL, *BARE], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was_stored(records: SqlRecords, record: Any) -> None:
    add(records, record)

    assert records.get(type(record), record.id) == record


def test_every_kind_of_record_is_covered_here() -> None:
    assert {type(record) for record in FULL} == set(Record.__args__)


def test_records_survive_a_new_start(records: SqlRecords, tmp_path: Path) -> None:
    add(records, *FULL)
    records.close()

    again = open_records(tmp_path)
    try:
        assert [again.get(type(record), record.id) for record in FULL] == FULL
    finally:
        again.close()


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


def test_an_error_takes_back_the_whole_transaction_with_its_audit_and_head(records: SqlRecords, tmp_path: Path) -> None:
    add(records, promotion())

    with pytest.raises(RuntimeError), records.write() as transaction:
        transaction.change(transaction.get(Promotion, "p-1"), state=RunState.DONE)
        transaction.add(promotion("p-2"))
        transaction.audit("alice", "promotion", "intent", subject="p-2")
        raise RuntimeError("in the middle")

    assert records.find(Promotion) == [promotion()]
    assert records.audit_trail() == []
    assert FileAuditHeads(tmp_path / "heads.jsonl").heads() == []


def test_the_same_id_twice_is_refused(records: SqlRecords) -> None:
    add(records, promotion())

    with pytest.raises(DatabaseUnavailable):
        add(records, promotion())

    assert records.find(Promotion) == [promotion()]


def test_audit_entries_make_a_chain_whose_head_is_exported_after_the_commit(
    records: SqlRecords, tmp_path: Path
) -> None:
    heads = FileAuditHeads(tmp_path / "heads.jsonl")
    with records.write() as transaction:
        transaction.audit("alice", "promotion", "intent", subject="p-1", detail={"n": 1})
        transaction.audit("bob", "promotion.approve", "outcome", subject="p-1")
        assert heads.heads() == []
    with records.write() as transaction:
        transaction.audit("executor", "release", "intent", subject="r-1")

    trail = records.audit_trail()
    assert [(entry.seq, entry.actor, entry.detail) for entry in trail] == [
        (1, "alice", {"n": 1}),
        (2, "bob", {}),
        (3, "executor", {}),
    ]
    assert [head.seq for head in heads.heads()] == [2, 3]
    assert verify(trail, heads.heads()).valid


def test_a_transaction_without_audit_exports_no_head(records: SqlRecords, tmp_path: Path) -> None:
    add(records, promotion())

    assert FileAuditHeads(tmp_path / "heads.jsonl").heads() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'mallory'",
        "UPDATE audit_log SET detail = '{}' WHERE seq = 2",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE seq = 2",
        f"INSERT INTO audit_log SELECT seq + 9, {COLUMNS} FROM audit_log",
        f"REPLACE INTO audit_log SELECT seq, {COLUMNS} FROM audit_log",
    ],
)
def test_the_audit_log_refuses_every_change(records: SqlRecords, tmp_path: Path, statement: str) -> None:
    for number in (1, 2):
        with records.write() as transaction:
            transaction.audit("alice", "promotion", "intent", subject=f"p-{number}")
    before = records.audit_trail()

    connection = sqlite3.connect(tmp_path / "slipway.db")
    try:
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            connection.execute(statement)
    finally:
        connection.close()

    assert records.audit_trail() == before


def test_an_owner_who_drops_the_triggers_is_found_by_the_verifier(records: SqlRecords, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with records.write() as transaction:
            transaction.audit("alice", "promotion", "intent", subject=f"p-{number}")

    connection = sqlite3.connect(tmp_path / "slipway.db")
    with connection:
        connection.execute("DROP TRIGGER audit_log_no_update")
        connection.execute("UPDATE audit_log SET actor = 'mallory' WHERE seq = 2")
    connection.close()

    heads = FileAuditHeads(tmp_path / "heads.jsonl").heads()
    assert verify(records.audit_trail(), heads).first_bad == 2


def test_a_hundred_audit_writers_in_many_processes_make_one_chain_without_a_gap(
    records: SqlRecords, tmp_path: Path
) -> None:
    program = """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from tests.unit.test_adapters_database import THREADS, open_records

        records = open_records(Path(sys.argv[1]))

        def write(number):
            with records.write() as transaction:
                transaction.audit(sys.argv[2], "test", "intent", subject=str(number))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(THREADS)))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    processes = [
        subprocess.Popen([*command, f"process-{number}"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors

    trail = records.audit_trail()
    heads = FileAuditHeads(tmp_path / "heads.jsonl").heads()
    assert len(trail) == PROCESSES * THREADS
    assert len({entry.prev_hash for entry in trail}) == len(trail)
    assert len(heads) == len(trail)
    assert verify(trail, heads).valid


def test_sixty_threads_of_one_process_wait_for_each_other(records: SqlRecords) -> None:
    def write(number: int) -> None:
        with records.write() as transaction:
            transaction.add(Progress(transaction.new_id(Progress), "p-1", "step", str(number), NOW))
            transaction.audit("alice", "test", "intent", subject=str(number))

    with ThreadPoolExecutor(60) as pool:
        list(pool.map(write, range(60)))

    assert [line.id for line in records.find(Progress)] == [f"s-{number}" for number in range(1, 61)]
    assert verify(records.audit_trail(), [head_of(records)]).entries == 60


def test_a_file_that_is_no_database_is_refused_as_unavailable(tmp_path: Path) -> None:
    (tmp_path / "slipway.db").write_bytes(b"not a database, but long enough to be looked at" * 30)

    with pytest.raises(DatabaseUnavailable) as refused:
        open_records(tmp_path)

    assert refused.value.next


def test_a_database_that_can_not_be_written_refuses_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        open_records(tmp_path / "missing")


def test_the_fields_of_a_record_are_the_columns_of_its_table(records: SqlRecords, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "slipway.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(releases)")]
    connection.close()

    assert columns == ["row", *(field.name for field in dataclasses.fields(ReleaseRecord))]
