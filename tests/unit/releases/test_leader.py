import dataclasses
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from pipelines.adapters.database.records import SqlRecords, now
from pipelines.domain.records import LeaderLease, Lease
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.errors import LostLease, Refused
from pipelines.releases.leader import (
    LEADER_LOST_S,
    end_frozen,
    give_up_leader_lease,
    is_alive,
    renew_leader_lease,
    take_leader_lease,
)
from pipelines.releases.machine import boot_clock, born_s
from tests.support.servers.databases import sqlite_records
from tests.support.world.executors import executor, frozen_with_lock
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import NOW, add

ELSEWHERE = "another-container"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    yield opened
    opened.close()


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def leader(silent_s: float, *, host: str | None = ELSEWHERE, pid: int | None = None) -> LeaderLease:
    """Return the leader lease of the executor `x1`, in another container of this machine unless `host` says otherwise.

    Its process is this test's unless another is named.
    """
    process, (boot_id, at_s) = psutil.Process(), boot_clock()
    born = born_s(process)
    return LeaderLease("executor", "x1", pid or process.pid, born, ago(silent_s), host, None, boot_id, at_s - silent_s)


def of_another_machine(silent_s: float) -> LeaderLease:
    return dataclasses.replace(leader(silent_s), boot_id="another-machine")


def test_on_its_own_host_an_executor_lives_while_its_process_does() -> None:
    here = socket.gethostname()
    gone = 2**22 + 1
    mine = leader(1, host=here)
    assert is_alive(mine, now())
    assert not is_alive(dataclasses.replace(mine, pid=gone), now())
    # The id was given to another process since.
    assert not is_alive(dataclasses.replace(mine, process_started=mine.process_started - 60), now())


@pytest.mark.parametrize("host", [ELSEWHERE, None])
def test_of_another_host_the_heartbeat_alone_counts(host: str | None) -> None:
    gone = 2**22 + 1
    assert is_alive(leader(1, host=host, pid=gone), now())
    assert not is_alive(leader(LEADER_LOST_S + 1, host=host), now())


def test_a_second_executor_of_one_host_is_refused_at_once(records: SqlRecords) -> None:
    take_leader_lease(executor(records, "x1", now))
    with pytest.raises(Refused, match=f"process {os.getpid()} of {socket.gethostname()}"):
        take_leader_lease(executor(records, "x2", now), patience_s=60.0)


def test_a_live_executor_of_another_host_is_waited_for_until_patience_ends(records: SqlRecords) -> None:
    add(records, leader(0))
    with pytest.raises(Refused, match=ELSEWHERE):
        take_leader_lease(executor(records, "x2", now), patience_s=0.5)
    assert records.get(LeaderLease, "executor").executor == "x1"


def test_the_leader_lease_of_another_host_is_taken_with_its_leases_when_it_falls_silent(records: SqlRecords) -> None:
    add(records, leader(LEADER_LOST_S - 1), Lease("m/production", "p-1", 3, "x1", NOW))
    (taken,) = take_leader_lease(executor(records, "x2", now), patience_s=30.0).leases
    assert taken.holder == "p-1"
    assert records.get(Lease, "m/production").epoch == 4
    found = records.get(LeaderLease, "executor")
    assert (found.executor, found.host, found.left_at) == ("x2", socket.gethostname(), None)


def test_a_successor_begins_as_soon_as_the_leader_lease_is_given_up(records: SqlRecords) -> None:
    first, second = executor(records, "x1", now), executor(records, "x2", now)
    add(records, leader(0))
    leaving = threading.Timer(0.3, give_up_leader_lease, [first])
    leaving.start()
    begun = datetime.now(UTC)
    take_leader_lease(second)
    leaving.join()
    assert not is_alive(dataclasses.replace(leader(0), left_at=now()), now())
    assert (datetime.now(UTC) - begun).total_seconds() < LEADER_LOST_S / 2
    assert records.get(LeaderLease, "executor").executor == "x2"
    with pytest.raises(LostLease):
        renew_leader_lease(first)


def test_a_frozen_executor_that_has_locked_the_database_is_ended_and_all_is_taken_over(
    records: SqlRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipelines.adapters.database.dialects.WAIT_S", 0.1)
    waiting = SqlRecords(f"sqlite:///{tmp_path / 'slipway.db'}", FakeCheckpoints())
    add(records, Lease("m/production", "p-1", 3, "frozen", NOW))
    with frozen_with_lock(tmp_path / "slipway.db", records) as holder:
        (taken,) = take_leader_lease(executor(waiting, "x2", now)).leases
    waiting.close()
    assert taken.holder == "p-1"
    told = f"database is locked; executor frozen, process {holder.pid}, is frozen and was ended"
    assert told in caplog.text


def test_an_executor_that_is_frozen_for_less_than_its_lease_is_named_and_left_alone(
    records: SqlRecords, tmp_path: Path
) -> None:
    with frozen_with_lock(tmp_path / "other.db", records) as holder:
        lately = dataclasses.replace(records.get(LeaderLease, "executor"), heartbeat_at=ago(1))
        assert end_frozen(lately, now()) == f"; executor frozen, process {holder.pid}, is frozen"
        assert holder.status() == psutil.STATUS_STOPPED
        assert end_frozen(dataclasses.replace(lately, host=ELSEWHERE), now()) == ""
    assert end_frozen(lately, now()) == end_frozen(None, now()) == ""


def test_an_executor_that_wakes_behind_a_locked_database_finds_that_it_was_replaced(
    records: SqlRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(records, leader(LEADER_LOST_S + 1))
    take_leader_lease(executor(records, "x2", now))
    monkeypatch.setattr(records, "write", None)
    with pytest.raises(LostLease):
        renew_leader_lease(executor(records, "x1", now))


def test_an_executor_that_was_replaced_does_not_give_up_its_successors_leader_lease(records: SqlRecords) -> None:
    add(records, leader(LEADER_LOST_S + 1))
    take_leader_lease(executor(records, "x2", now))
    give_up_leader_lease(executor(records, "x1", now))
    assert is_alive(records.get(LeaderLease, "executor"), now())


@pytest.mark.parametrize("step_s", [-600.0, 600.0])
def test_a_step_of_the_clock_on_the_wall_makes_nobody_older_or_younger(step_s: float) -> None:
    stepped = ago(-step_s)
    assert is_alive(leader(LEADER_LOST_S - 1), stepped)
    assert not is_alive(leader(LEADER_LOST_S + 1), stepped)


@pytest.mark.parametrize("step_s", [-600.0, 600.0])
def test_a_step_of_the_machines_own_clock_makes_no_other_process_of_a_living_executor(
    records: SqlRecords, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    take_leader_lease(executor(records, "x1", now))
    boot_time = psutil.boot_time()
    # What the kernel calls the time of its start moves with each step of the clock on the wall.
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot_time + step_s)
    with pytest.raises(Refused, match=f"process {os.getpid()}"):
        take_leader_lease(executor(records, "x2", now), patience_s=0.0)


def test_an_executor_that_works_through_a_step_of_the_clock_keeps_its_lease(records: SqlRecords) -> None:
    stepping = executor(records, "x1", lambda: ago(-600))
    take_leader_lease(stepping)
    renew_leader_lease(executor(records, "x1", now))
    assert is_alive(records.get(LeaderLease, "executor"), now())
    with pytest.raises(Refused):
        take_leader_lease(executor(records, "x2", lambda: ago(600)), patience_s=0.0)


def test_the_clock_of_another_machine_is_not_believed(records: SqlRecords) -> None:
    add(records, of_another_machine(3600.0))
    with pytest.raises(Refused, match=ELSEWHERE):
        take_leader_lease(executor(records, "x2", now), patience_s=0.0)


def test_an_executor_of_another_machine_is_dead_when_its_lease_has_not_changed_for_long(records: SqlRecords) -> None:
    add(records, of_another_machine(-3600.0))
    shown: list[float] = []
    take_leader_lease(executor(records, "x2", now), show_life=lambda: shown.append(time.monotonic()))
    assert records.get(LeaderLease, "executor").executor == "x2"
    assert LEADER_LOST_S / 2 < shown[-1] - shown[0] < 2 * LEADER_LOST_S


def test_who_takes_over_goes_on_from_the_greater_epoch_of_database_and_target(records: SqlRecords) -> None:
    services = executor(records, "x2", now)
    add(records, leader(LEADER_LOST_S + 1), Lease("toy-model/production", "p-1", 3, "x1", NOW))
    services.target.set_traffic_weights(Endpoint("toy-model", Environment.PRODUCTION), {Slot.LIVE: 1}, epoch=9)
    (taken,) = take_leader_lease(services).leases
    assert taken.epoch == 3
    assert records.get(Lease, "toy-model/production").epoch == 10
