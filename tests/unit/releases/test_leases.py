import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.records import LeaderLease, Lease
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.errors import LeaseHeld, LostLease, UsageError
from pipelines.releases import leases
from pipelines.releases.services import Services
from tests.support.servers.databases import sqlite_records
from tests.support.world.executors import executor
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL, NOW

PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    yield opened
    opened.close()


def start(records: SqlRecords, name: str) -> Services:
    """Start the executor `name`, which takes over what the one before held."""
    with records.write() as transaction:
        leases.take_over(transaction, LeaderLease("executor", name, 1, 0.0, NOW), NOW)
    return executor(records, name, lambda: NOW)


def production_lease(records: SqlRecords) -> Lease:
    return records.get(Lease, leases.lease_id(MODEL, PRODUCTION))


def test_the_first_holder_gets_epoch_1_and_is_audited(records: SqlRecords) -> None:
    services = start(records, "x1")

    assert leases.acquire(services, MODEL, PRODUCTION, "p-1") == 1

    (entry,) = records.audit_trail()
    assert (entry.action, entry.subject, entry.detail) == ("lease.take", "p-1", {"epoch": 1})


def test_taking_a_lease_again_is_taking_it_once(records: SqlRecords) -> None:
    services = start(records, "x1")

    assert [leases.acquire(services, MODEL, PRODUCTION, "p-1") for _ in range(3)] == [1, 1, 1]
    assert len(list(records.audit_trail())) == 1


def test_another_piece_of_work_is_refused_with_the_holder_and_since_when(records: SqlRecords) -> None:
    services = start(records, "x1")
    leases.acquire(services, MODEL, PRODUCTION, "p-1")

    with pytest.raises(LeaseHeld, match=re.escape(f"p-1 since {NOW}")) as refused:
        leases.acquire(services, MODEL, PRODUCTION, "p-2")

    assert refused.value.next
    assert production_lease(records).holder == "p-1"


def test_leases_of_other_environments_and_models_do_not_meet(records: SqlRecords) -> None:
    services = start(records, "x1")
    leases.acquire(services, MODEL, PRODUCTION, "p-1")

    assert leases.acquire(services, MODEL, STAGING, "e-1") == 1
    assert leases.acquire(services, "other-model", PRODUCTION, "p-2") == 1


def test_every_new_holder_raises_the_epoch(records: SqlRecords) -> None:
    services = start(records, "x1")
    epochs = []
    for holder in ("p-1", "p-2", "p-1"):
        epochs.append(leases.acquire(services, MODEL, PRODUCTION, holder))
        leases.give_back(services, holder)

    assert epochs == [1, 2, 3]
    assert production_lease(records).holder is None


def test_giving_back_what_somebody_else_holds_changes_nothing(records: SqlRecords) -> None:
    services = start(records, "x1")
    leases.acquire(services, MODEL, PRODUCTION, "p-1")

    leases.give_back(services, "p-2")

    assert production_lease(records).holder == "p-1"


def test_giving_back_twice_is_giving_back_once(records: SqlRecords) -> None:
    services = start(records, "x1")
    leases.acquire(services, MODEL, PRODUCTION, "p-1")

    for _ in range(2):
        leases.give_back(services, "p-1")

    assert production_lease(records).epoch == 1


def test_only_the_holder_is_confirmed(records: SqlRecords) -> None:
    services = start(records, "x1")
    leases.acquire(services, MODEL, PRODUCTION, "p-1")

    assert leases.confirm(services, MODEL, PRODUCTION, "p-1") == 1
    with pytest.raises(LostLease, match="held by p-1"):
        leases.confirm(services, MODEL, PRODUCTION, "p-2")

    leases.give_back(services, "p-1")
    with pytest.raises(LostLease):
        leases.confirm(services, MODEL, PRODUCTION, "p-1")


def test_a_lease_that_never_was_is_not_confirmed(records: SqlRecords) -> None:
    with pytest.raises(UsageError):
        leases.confirm(start(records, "x1"), MODEL, PRODUCTION, "p-1")


def test_a_new_executor_takes_over_what_was_held_under_a_larger_epoch(records: SqlRecords) -> None:
    old = start(records, "x1")
    leases.acquire(old, MODEL, PRODUCTION, "p-1")
    leases.acquire(old, MODEL, STAGING, "e-1")
    leases.give_back(old, "e-1")

    with records.write() as transaction:
        taken = leases.take_over(transaction, LeaderLease("executor", "x2", 2, 0.0, NOW), NOW)
    new = executor(records, "x2", lambda: NOW)

    assert [lease.holder for lease in taken] == ["p-1"]
    assert leases.confirm(new, MODEL, PRODUCTION, "p-1") == 2
    assert leases.acquire(new, MODEL, PRODUCTION, "p-1") == 2
    assert records.get(Lease, leases.lease_id(MODEL, STAGING)).epoch == 1


def test_an_executor_that_wakes_after_a_take_over_has_lost_its_lease(records: SqlRecords) -> None:
    zombie = start(records, "x1")
    leases.acquire(zombie, MODEL, PRODUCTION, "p-1")
    start(records, "x2")

    for attempt in (leases.confirm, leases.acquire):
        with pytest.raises(LostLease):
            attempt(zombie, MODEL, PRODUCTION, "p-1")
    with pytest.raises(LostLease):
        leases.give_back(zombie, "p-1")
    with pytest.raises(LostLease, match="lost lease, epoch 1 < 2"):
        leases.confirm(zombie, MODEL, PRODUCTION, "p-1")
    assert production_lease(records) == Lease(leases.lease_id(MODEL, PRODUCTION), "p-1", 2, "x2", NOW)


def test_an_executor_that_was_replaced_can_not_take_a_free_lease(records: SqlRecords) -> None:
    zombie = start(records, "x1")
    start(records, "x2")

    with pytest.raises(LostLease, match="x1 was replaced by x2"):
        leases.acquire(zombie, MODEL, PRODUCTION, "p-1")

    assert records.find(Lease) == []


def test_epochs_go_on_from_the_greater_one_of_database_and_target(records: SqlRecords) -> None:
    services = start(records, "x1")
    services.target.set_traffic_weights(Endpoint(MODEL, PRODUCTION), {Slot.LIVE: 1}, epoch=41)

    assert leases.acquire(services, MODEL, PRODUCTION, "p-1") == 42
    assert leases.acquire(services, MODEL, STAGING, "e-1") == 1


def test_a_lease_that_is_lost_during_an_effect_is_noticed_after_it(records: SqlRecords) -> None:
    zombie = start(records, "x1")
    leases.acquire(zombie, MODEL, PRODUCTION, "p-1")

    with (
        pytest.raises(LostLease, match="lost lease, epoch 1 < 2"),
        leases.confirmed(zombie, MODEL, PRODUCTION, "p-1") as epoch,
    ):
        start(records, "x2")
    assert epoch == 1


def test_a_former_executor_is_told_its_epoch_after_its_successor_has_given_the_lease_back(records: SqlRecords) -> None:
    zombie = start(records, "x1")
    leases.acquire(zombie, MODEL, PRODUCTION, "p-1")
    start(records, "x2")
    leases.give_back(executor(records, "x2", lambda: NOW), "p-1")

    for attempt in (leases.confirm, leases.acquire):
        with pytest.raises(LostLease, match="lost lease, epoch 1 < 2"):
            attempt(zombie, MODEL, PRODUCTION, "p-1")
