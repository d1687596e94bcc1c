"""What every store of events must do, asked of SQLite and of a real PostgreSQL."""

import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.adapters.database.signals import FifoSignals
from pipelines.domain.events import EventKind
from pipelines.domain.records import Promotion
from pipelines.ports import Listener
from pipelines.settings.settings import ROOT
from tests.support.servers.databases import Place
from tests.support.world.records import add, promotion

KIND = EventKind.PROMOTION_ASKED
SOON_S = 1.0


@pytest.fixture
def listener(records: SqlRecords) -> Iterator[Listener]:
    opened = records.listen()
    yield opened
    opened.close()


def emit(records: SqlRecords, *subjects: str, kind: EventKind = KIND) -> None:
    with records.write() as transaction:
        for subject in subjects:
            transaction.emit(kind, subject=subject, model="toy-model", detail={"n": [1]})


def test_events_come_back_in_the_order_of_their_commits_with_growing_numbers(records: SqlRecords) -> None:
    emit(records, "p-1", "p-2")
    emit(records, "p-3")

    events = records.events()

    assert [event.subject for event in events] == ["p-1", "p-2", "p-3"]
    assert events[0].seq < events[1].seq < events[2].seq
    first = events[0]
    assert (first.kind, first.model, first.detail) == (KIND, "toy-model", {"n": [1]})
    assert records.events(after=events[0].seq, limit=1) == [events[1]]


def test_events_are_found_by_subject_and_kind(records: SqlRecords) -> None:
    emit(records, "p-1", "p-2")
    emit(records, "p-1", kind=EventKind.APPROVAL_ASKED)

    assert [event.kind for event in records.events(subject="p-1")] == [KIND, EventKind.APPROVAL_ASKED]
    assert [event.subject for event in records.events(kinds=[KIND])] == ["p-1", "p-2"]


def test_an_event_is_there_with_its_change_or_not_at_all(records: SqlRecords, listener: Listener) -> None:
    with pytest.raises(RuntimeError), records.write() as transaction:
        transaction.add(promotion())
        transaction.emit(KIND, subject="p-1")
        raise RuntimeError("in the middle")
    assert (records.find(Promotion), records.events()) == ([], [])
    assert not listener.wait(0.2)

    with records.write() as transaction:
        transaction.add(promotion())
        transaction.emit(KIND, subject="p-1")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(records.events).result() == []
    assert [event.subject for event in records.events()] == ["p-1"]


def test_whoever_has_read_an_event_has_seen_every_one_before_it(place: Place, records: SqlRecords) -> None:
    seen: list[int] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.extend(event.seq for event in records.events(after=seen[-1] if seen else 0))

    def write(number: int) -> None:
        emit(records, *(f"{number}-{each}" for each in range(3)))

    with ThreadPoolExecutor(9) as pool:
        reading = pool.submit(read)
        list(pool.map(write, range(40)))
        ended.set()
        reading.result()

    seen.extend(event.seq for event in records.events(after=seen[-1]))
    assert seen == [event.seq for event in records.events()]
    assert len(seen) == 120


def test_a_listener_hears_what_another_process_commits_and_nothing_without_events(
    place: Place, records: SqlRecords, listener: Listener
) -> None:
    add(records, promotion())
    assert not listener.wait(0.2)

    program = """
        import sys
        from pathlib import Path
        from pipelines.adapters.database.records import SqlRecords
        from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
        from pipelines.domain.events import EventKind

        records = SqlRecords(sys.argv[1], FileCheckpoints(Path(sys.argv[2])))
        print("open", flush=True)
        sys.stdin.readline()
        with records.write() as transaction:
            transaction.emit(EventKind.PROMOTION_ASKED, subject="p-1")
        print("committed", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), place.url, str(place.checkpoints_file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == "open\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert listener.wait(30)
        assert [event.subject for event in records.events()] == ["p-1"]


def test_every_listener_hears_and_hears_once(records: SqlRecords, listener: Listener) -> None:
    other = records.listen()

    emit(records, "p-1", "p-2")

    assert [listener.wait(SOON_S), other.wait(SOON_S)] == [True, True]
    assert [listener.wait(0.2), other.wait(0.2)] == [False, False]
    other.close()


def test_a_wait_is_ended_from_another_thread(listener: Listener) -> None:
    begun = time.monotonic()
    threading.Timer(0.1, listener.wake).start()

    assert listener.wait(30)
    assert time.monotonic() - begun < 10


def test_waking_a_listener_that_is_closed_writes_into_no_other_file(records: SqlRecords, tmp_path: Path) -> None:
    closed = records.listen()
    closed.close()
    others = [(tmp_path / f"{number}").open("w+b") for number in range(4)]

    closed.wake()

    for other in others:
        with other:
            assert other.read() == b""


def test_a_process_without_descriptors_to_spare_rings_nobody_and_loses_no_listener(tmp_path: Path) -> None:
    signals = FifoSignals(tmp_path)
    listener = signals.listen()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        signals.ring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not listener.wait(0)
    signals.ring()
    assert listener.wait(SOON_S)
    listener.close()


def test_what_a_killed_listener_has_left_holds_nobody_up(place: Place, records: SqlRecords, listener: Listener) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from pipelines.adapters.database.records import SqlRecords
        from pipelines.adapters.storage.checkpoints_file import FileCheckpoints

        listener = SqlRecords(sys.argv[1], FileCheckpoints(Path(sys.argv[2]))).listen()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), place.url, str(place.checkpoints_file)]
    subprocess.run(command, cwd=ROOT, check=False, timeout=60)

    emit(records, "p-1")

    assert listener.wait(SOON_S)
    left = list(Path(f"{place.url.removeprefix('sqlite:///')}-signals").glob("*"))
    assert len(left) == (1 if place.url.startswith("sqlite") else 0)


def test_a_listener_that_nobody_empties_holds_no_writer_up(records: SqlRecords, listener: Listener) -> None:
    # The FIFO of a listener that is busy is full after 65,536 signals.
    begun = time.monotonic()
    for _ in range(30):
        emit(records, "p-1")
    for _ in range(70_000):
        listener.wake()
    emit(records, "p-2")

    assert time.monotonic() - begun < 30
    assert listener.wait(SOON_S)


def test_old_lines_of_progress_are_forgotten_and_no_other_event(records: SqlRecords) -> None:
    emit(records, *("p-1",) * 4, kind=EventKind.PROGRESS_MADE)
    emit(records, "p-1")
    lines = records.events(kinds=[EventKind.PROGRESS_MADE])
    with records.write() as transaction:
        assert transaction.forget_progress(before="2000", up_to=99, limit=99) == 0
        assert transaction.forget_progress(before="9999", up_to=lines[2].seq, limit=2) == 2
        assert transaction.forget_progress(before="9999", up_to=lines[2].seq, limit=2) == 1

    assert [event.kind for event in records.events()] == [EventKind.PROGRESS_MADE, KIND]
