"""Work that should go on and does not, as doctor, status and `up` tell it."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines import commands
from pipelines.adapters.database.records import SqlRecords, now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, LeaderLease, Lease, Maintenance, Promotion, Rollback
from pipelines.domain.release import Environment
from pipelines.errors import Cancelled
from pipelines.governance.work import move, stop
from pipelines.releases.machine import boot_clock
from pipelines.releases.maintenance import LIMIT_S
from pipelines.releases.stalled import LATE_S, QUIET_S, stalled_work
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL, NOW, add, evaluation, policy, promotion, put_in_force, report_step


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    put_in_force(opened)
    boot_id, beat_s = boot_clock()
    # It lives for as long as these tests look ahead.
    leader = LeaderLease("executor", "x1", os.getpid(), 0.0, now(), "elsewhere", None, boot_id, beat_s + 10 * QUIET_S)
    add(opened, leader)
    yield opened
    opened.close()


def later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def asked(records: SqlRecords, version: str = "7") -> Evaluation:
    return commands.request_evaluation(records, person="alice", model=MODEL, version=version, override=None, now=now())


def test_nothing_is_stalled_where_nothing_was_asked_for(records: SqlRecords) -> None:
    assert stalled_work(records, later(QUIET_S)) == []


def test_an_approved_promotion_that_never_begins_is_stalled(records: SqlRecords) -> None:
    add(records, evaluation(report=None), promotion("p-7", "7"))
    with records.write() as transaction:
        move(transaction, transaction.get(Promotion, "p-7"), RunState.APPROVED)
    assert stalled_work(records, later(LATE_S - 10)) == []
    assert stalled_work(records, later(240)) == ["p-7 was to begin 4 min ago and has not"]


def test_a_rollback_and_a_policy_that_never_begin_are_stalled(records: SqlRecords) -> None:
    commands.request_rollback(records, person="alice", model=MODEL, environment=Environment.PRODUCTION, now=now())
    commands.request_policy(records, person="alice", model=MODEL, policy=policy(), now=now())
    assert stalled_work(records, later(LATE_S - 10)) == []
    told = stalled_work(records, later(600))
    assert told == ["b-1 was to begin 10 min ago and has not", "y-2 was to begin 10 min ago and has not"]


def test_of_evaluations_that_wait_for_their_turn_only_the_first_can_be_stalled(records: SqlRecords) -> None:
    first, second = asked(records), asked(records, "8")
    assert stalled_work(records, later(600)) == [f"{first.id} was to begin 10 min ago and has not"]
    with records.write() as transaction:
        first = move(transaction, first, RunState.RUNNING)
    report_step(records, first.id, "packaging")
    assert stalled_work(records, later(600)) == []
    with records.write() as transaction:
        stop(transaction, first, Cancelled("bob"), at=now())
    assert stalled_work(records, later(LATE_S - 10)) == []
    assert stalled_work(records, later(600)) == [f"{second.id} was to begin 10 min ago and has not"]


def test_an_evaluation_that_maintenance_keeps_out_is_not_stalled(
    records: SqlRecords,
) -> None:
    asked(records)
    held = Maintenance("c-1", MODEL, "up", "alice", now(), state=RunState.RUNNING, held_at=now())
    add(records, held)
    assert stalled_work(records, later(600)) == []
    assert stalled_work(records, later(LIMIT_S + 600)) == ["c-1 should have ended 10 min ago"]


def test_of_sets_that_are_added_one_after_the_other_none_that_waits_is_stalled(records: SqlRecords) -> None:
    first, second = (AddedSet(f"s-{n}", MODEL, "mine", f"sha256:{n}", "run", "alice", now()) for n in (1, 2))
    add(records, first, second)
    late = [f"{each.id} was to begin 10 min ago and has not" for each in (first, second)]
    assert stalled_work(records, later(600)) == late
    with records.write() as transaction:
        move(transaction, first, RunState.RUNNING)
    assert stalled_work(records, later(600)) == []
    assert stalled_work(records, later(1200)) == ["s-1 has made no progress since 'its start', 20 min ago"]


def test_a_promotion_whose_evaluation_has_ended_without_it_is_stalled(records: SqlRecords) -> None:
    add(records, evaluation("e-7", "7", report=None, ended_at=now()))
    add(records, promotion("p-7", "7", evaluation_id="e-7", state=RunState.REQUESTED))
    assert stalled_work(records, later(LATE_S - 10)) == []
    assert stalled_work(records, later(600)) == ["p-7 was to begin 10 min ago and has not"]


@pytest.mark.parametrize("holds", [True, False])
def test_work_that_tells_nothing_any_more_is_stalled(records: SqlRecords, holds: bool) -> None:
    add(records, promotion("p-7", "7", state=RunState.RUNNING))
    add(records, Lease(f"{MODEL}/production", "p-7" if holds else None, 3, "x1", NOW))
    report_step(records, "p-7", "K6 converged")
    assert stalled_work(records, later(QUIET_S - 10)) == []
    more = ", and holds a lease" if holds else ""
    assert stalled_work(records, later(1200)) == [f"p-7 has made no progress since 'K6 converged', 20 min ago{more}"]


def test_the_removal_of_a_model_that_resists_is_stalled(records: SqlRecords) -> None:
    commands.add_model(records, person="alice", model="shop-model", default=MODEL, now=now())
    commands.remove_model(records, person="alice", model="shop-model", default=MODEL)
    # It is tried again and again, and says so each time.
    report_step(records, "removal-shop-model", "production is drained")
    assert stalled_work(records, later(QUIET_S - 10)) == []
    assert stalled_work(records, later(1200)) == ["removal-shop-model was asked for 20 min ago and is not done"]
    with records.write() as transaction:
        transaction.change(transaction.get(LeaderLease, "executor"), left_at=now())
    assert stalled_work(records, now()) == ["removal-shop-model does not go on: no executor shows that it lives"]


def test_without_an_executor_all_that_was_asked_for_is_stalled_at_once(records: SqlRecords) -> None:
    with records.write() as transaction:
        transaction.change(transaction.get(LeaderLease, "executor"), left_at=now())
    add(
        records,
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", now()),
        promotion("p-7", "7", expires_at=later(9)),
    )
    assert stalled_work(records, now()) == ["b-1 does not go on: no executor shows that it lives"]
