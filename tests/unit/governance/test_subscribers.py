"""Subscribers get every event, in order, at least once, and remember their place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.events import Event, EventKind
from pipelines.errors import Undecided
from pipelines.governance.subscribers import Subscriber, Subscriptions
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints

COUNT = 250


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    yield opened
    opened.close()


class Reader:
    """Keeps what it is told, and fails at one subject as long as it is `failing_at`."""

    def __init__(self, failing_at: str = "") -> None:
        self.failing_at = failing_at
        self.heard: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.subject == self.failing_at:
            raise Undecided(f"nobody takes {event.subject}")
        self.heard.append(event.subject)


def emit(records: SqlRecords, *subjects: str) -> None:
    with records.write() as transaction:
        for subject in subjects:
            transaction.emit(EventKind.PROMOTION_ASKED, subject=subject)


def subscribed(records: SqlRecords, reader: Reader, name: str = "chat") -> Subscriptions:
    subscriptions = Subscriptions(records)
    subscriptions.subscribe(name, Subscriber(reader))
    return subscriptions


def test_every_event_is_delivered_once_and_in_order(records: SqlRecords) -> None:
    reader = Reader()
    subscriptions = subscribed(records, reader)
    subjects = [f"p-{number}" for number in range(COUNT)]
    emit(records, *subjects)

    for _ in range(3):
        subscriptions.deliver()

    assert reader.heard == subjects


def test_a_new_subscriber_begins_with_what_happens_from_now_on(records: SqlRecords) -> None:
    emit(records, "before")
    reader = Reader()
    subscriptions = subscribed(records, reader)

    emit(records, "after")
    subscriptions.deliver()

    assert reader.heard == ["after"]


def test_a_place_survives_the_process(records: SqlRecords) -> None:
    subscriptions = subscribed(records, Reader())
    emit(records, "p-1")
    subscriptions.deliver()
    emit(records, "p-2")

    reader = Reader()
    subscribed(records, reader).deliver()

    assert reader.heard == ["p-2"]


def test_what_a_handler_refuses_is_delivered_again_before_what_follows(records: SqlRecords) -> None:
    reader = Reader(failing_at="p-2")
    subscriptions = subscribed(records, reader)
    emit(records, "p-1", "p-2", "p-3")
    for _ in range(2):
        subscriptions.deliver()
    assert reader.heard == ["p-1"]

    reader.failing_at = ""
    subscriptions.deliver()

    assert reader.heard == ["p-1", "p-2", "p-3"]


def test_a_bug_in_a_handler_ends_nothing_but_its_own_turn(records: SqlRecords) -> None:
    reader, other = Reader(), Reader()

    def broken(event: Event) -> None:
        reader(event)
        raise KeyError(event.subject)

    subscriptions = Subscriptions(records)
    subscriptions.subscribe("broken", Subscriber(broken))
    subscriptions.subscribe("other", Subscriber(other))
    emit(records, "p-1")

    for _ in range(2):
        subscriptions.deliver()

    assert (reader.heard, other.heard) == (["p-1", "p-1"], ["p-1"])


def test_one_that_is_behind_does_not_hold_up_the_others(records: SqlRecords) -> None:
    failing, other = Reader(failing_at="p-1"), Reader()
    subscriptions = subscribed(records, failing)
    subscriptions.subscribe("other", Subscriber(other))
    emit(records, "p-1", "p-2")

    subscriptions.deliver()

    assert (failing.heard, other.heard) == ([], ["p-1", "p-2"])


def test_one_who_wants_some_kinds_is_told_of_no_other(records: SqlRecords) -> None:
    reader = Reader()
    subscriptions = Subscriptions(records)
    subscriptions.subscribe("chat", Subscriber(reader, [EventKind.APPROVAL_ASKED]))
    emit(records, "p-1")
    with records.write() as transaction:
        transaction.emit(EventKind.APPROVAL_ASKED, subject="p-2")
    emit(records, "p-3")

    for _ in range(2):
        subscriptions.deliver()

    assert reader.heard == ["p-2"]
