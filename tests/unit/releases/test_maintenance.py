"""Maintenance: they hold every environment or none, wait their turn, and end whatever becomes of their asker."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines import commands
from pipelines.adapters.database.records import SqlRecords, now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, LeaderLease, Lease, Maintenance, Promotion, Rollback
from pipelines.domain.release import Environment
from pipelines.errors import LeaseHeld
from pipelines.executor.scheduler import carry_out, due_in_s
from pipelines.governance.progress import progress_of
from pipelines.releases import leases, machine
from pipelines.releases.leader import give_up_leader_lease, take_leader_lease
from pipelines.releases.maintenance import LIMIT_S, under_way
from pipelines.releases.services import Services
from pipelines.settings.settings import ROOT
from tests.support.servers.databases import sqlite_records
from tests.support.world.executors import executor
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL, NOW, add, evaluation, promotion, put_in_force

PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


class Clock:
    """An executor's clocks, set on by hand: that on the wall, which alone can be stepped, and that of the start."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._boot_s = 0.0

    def __call__(self) -> str:
        return self._now.isoformat(timespec="milliseconds")

    def of_boot(self) -> tuple[str, float]:
        return "boot", self._boot_s

    def pass_s(self, seconds: float) -> None:
        self.step_s(seconds)
        self._boot_s += seconds

    def step_s(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    put_in_force(opened)
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(machine, "boot_clock", made.of_boot)
    return made


@pytest.fixture
def services(records: SqlRecords, clock: Clock) -> Services:
    made = executor(records, "x1", clock)
    take_leader_lease(made)
    return made


def ask(records: SqlRecords, clock: Clock, verb: str = "up") -> Maintenance:
    return commands.request_maintenance(records, person="alice", model=MODEL, verb=verb, now=clock())


def look(records: SqlRecords, change: Maintenance) -> Maintenance:
    return records.get(Maintenance, change.id)


def round_of(services: Services) -> list[str]:
    """Let the executor do one round; return what it began."""
    begun: list[str] = []
    starts: dict[type, Callable[[str], None]] = dict.fromkeys((Evaluation, Promotion, Rollback), begun.append)
    carry_out(services, starts)
    return begun


def holders(records: SqlRecords) -> dict[str, str | None]:
    return {lease.id.rpartition("/")[2]: lease.holder for lease in records.find(Lease)}


def test_both_environments_are_held_and_given_back_with_intent_and_outcome_in_the_trail(
    services: Services, records: SqlRecords, clock: Clock
) -> None:
    change = ask(records, clock)
    round_of(services)
    assert look(records, change).state is RunState.RUNNING
    assert holders(records) == {"staging": "c-1", "production": "c-1"}
    with pytest.raises(LeaseHeld, match="production is being changed by c-1 since 2026"):
        leases.acquire(services, MODEL, PRODUCTION, "p-1")

    commands.end_maintenance(records, person="alice", id=change.id, now=clock())
    round_of(services)
    assert look(records, change).state is RunState.DONE
    assert holders(records) == {"staging": None, "production": None}
    assert leases.acquire(services, MODEL, PRODUCTION, "p-1") == 2
    told = [(entry.actor, entry.action, entry.phase) for entry in records.audit_trail() if entry.subject == "c-1"]
    assert told == [
        ("alice", "maintenance", "intent"),
        ("executor", "lease.take", "outcome"),
        ("executor", "lease.take", "outcome"),
        ("alice", "maintenance.end", "intent"),
        ("executor", "maintenance", "outcome"),
    ]


def test_none_is_held_while_other_work_has_one_and_it_is_told_once_which(
    services: Services, records: SqlRecords, clock: Clock
) -> None:
    leases.acquire(services, MODEL, PRODUCTION, "p-12")
    change = ask(records, clock)
    for _ in range(3):
        round_of(services)
    assert look(records, change).state is RunState.REQUESTED
    assert holders(records) == {"production": "p-12"}
    told = [(line.step, line.message) for line in progress_of(records, change.id)]
    assert told == [("waiting", "for p-12, which changes production")]

    leases.give_back(services, "p-12")
    round_of(services)
    assert look(records, change).state is RunState.RUNNING


def test_work_that_was_begun_before_is_not_refused_although_it_has_no_lease_yet(
    services: Services, records: SqlRecords, clock: Clock
) -> None:
    add(records, evaluation(report=None, state=RunState.DONE), promotion(state=RunState.APPROVED))
    change = ask(records, clock)
    assert round_of(services) == ["p-1"]
    assert look(records, change).state is RunState.REQUESTED
    leases.acquire(services, MODEL, PRODUCTION, "p-1")


def test_an_evaluation_waits_until_the_one_before_has_ended(services: Services, records: SqlRecords) -> None:
    add(records, evaluation("e-1", report=None, state=RunState.RUNNING))
    add(records, evaluation("e-2", "3", report=None, state=RunState.REQUESTED))
    assert round_of(services) == []
    with records.write() as transaction:
        transaction.change(records.get(Evaluation, "e-1"), state=RunState.DONE)
    assert round_of(services) == ["e-2"]


def test_evaluations_queue_behind_a_maintenance(services: Services, records: SqlRecords, clock: Clock) -> None:
    add(records, evaluation("e-1", report=None, state=RunState.RUNNING))
    add(records, evaluation("e-2", "3", report=None, state=RunState.REQUESTED))
    change = ask(records, clock)
    round_of(services)
    with records.write() as transaction:
        transaction.change(records.get(Evaluation, "e-1"), state=RunState.DONE)
    assert round_of(services) == []
    assert look(records, change).state is RunState.RUNNING
    assert round_of(services) == []

    commands.end_maintenance(records, person="alice", id=change.id, now=clock())
    assert round_of(services) == ["e-2"]


@pytest.mark.parametrize("held", [True, False])
def test_whoever_asks_next_ends_a_former_asker_who_was_killed(
    services: Services, records: SqlRecords, clock: Clock, held: bool
) -> None:
    former = ask(records, clock)
    if held:
        round_of(services)
    change = ask(records, clock, "down")
    round_of(services)
    assert (look(records, former).state, look(records, change).state) == (RunState.DONE, RunState.RUNNING)
    assert set(holders(records).values()) == {change.id}


@pytest.mark.parametrize("step_s", [0, 2 * LIMIT_S, -2 * LIMIT_S])
def test_a_change_that_nobody_ends_is_given_back_after_the_limit_however_the_clock_is_set(
    services: Services, records: SqlRecords, clock: Clock, step_s: float
) -> None:
    leases.acquire(services, MODEL, PRODUCTION, "p-12")
    change = ask(records, clock)
    round_of(services)
    clock.pass_s(LIMIT_S / 2)
    clock.step_s(step_s)
    leases.give_back(services, "p-12")
    round_of(services)
    clock.pass_s(LIMIT_S - 1)
    clock.step_s(step_s)
    round_of(services)
    assert look(records, change).state is RunState.RUNNING
    assert due_in_s(services) == pytest.approx(1, abs=0.1)

    clock.pass_s(2)
    round_of(services)
    ended = look(records, change)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "lost_lease")
    assert set(holders(records).values()) == {None}
    assert "not ended within 25 min" in records.newest_audit(1)[-1].detail["message"]


def test_the_next_executor_goes_on_holding_and_can_give_back(
    services: Services, records: SqlRecords, clock: Clock
) -> None:
    change = ask(records, clock)
    round_of(services)
    successor = executor(records, "x2", clock)
    with records.write() as transaction:
        leases.take_over(transaction, LeaderLease("executor", "x2", 1, 0.0, NOW), clock())
    round_of(successor)
    assert look(records, change).state is RunState.RUNNING
    commands.end_maintenance(records, person="alice", id=change.id, now=clock())
    round_of(successor)
    assert look(records, change).state is RunState.DONE
    assert set(holders(records).values()) == {None}


def test_ending_twice_is_ending_once(services: Services, records: SqlRecords, clock: Clock) -> None:
    change = ask(records, clock)
    for _ in range(2):
        commands.end_maintenance(records, person="alice", id=change.id, now=clock())
        round_of(services)
    assert [entry.action for entry in records.audit_trail()] == ["maintenance", "maintenance.end", "maintenance"]


@pytest.mark.parametrize(
    ("state", "counts"),
    [(RunState.RUNNING, True), (RunState.APPROVED, True), (RunState.WAITING, False), (RunState.DONE, False)],
)
def test_what_an_executor_goes_on_with_unasked_is_under_way(
    records: SqlRecords, services: Services, clock: Clock, state: RunState, counts: bool
) -> None:
    add(records, promotion(state=state))
    assert under_way(records, clock()) == (["p-1"] if counts else [])


def test_who_holds_a_lease_is_under_way_and_a_maintenance_is_not(
    records: SqlRecords, services: Services, clock: Clock
) -> None:
    leases.acquire(services, MODEL, PRODUCTION, "p-12")
    assert under_way(records, clock()) == ["p-12"]
    leases.give_back(services, "p-12")
    ask(records, clock)
    round_of(services)
    assert any(lease.holder for lease in records.find(Lease))
    assert under_way(records, clock()) == []


@pytest.mark.parametrize("gone", [True, False])
def test_nothing_is_under_way_without_a_living_executor(
    records: SqlRecords, services: Services, clock: Clock, gone: bool
) -> None:
    leases.acquire(services, MODEL, PRODUCTION, "p-12")
    if gone:
        give_up_leader_lease(services)
    else:
        with records.write() as transaction:
            leader = transaction.get(LeaderLease, "executor")
            transaction.change(leader, beat_s=(leader.beat_s or 0.0) - 60.0)
    assert under_way(records, clock()) == []


def test_the_executors_own_container_says_in_json_what_is_under_way(tmp_path: Path) -> None:
    records = sqlite_records(tmp_path, FakeCheckpoints())
    put_in_force(records)
    working = executor(records, "x1", now)
    take_leader_lease(working)
    leases.acquire(working, MODEL, PRODUCTION, "p-12")
    records.close()
    environ = {**os.environ, "SLIPWAY_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pipelines.cli", "work"]
    told = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == {"work": ["p-12"]}
