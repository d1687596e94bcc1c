"""What the executor removes: nothing that a release, a way back, an approval or an evaluation needs."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipelines.adapters.database.records import now
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.commands import add_model
from pipelines.domain.bundle import digest_of
from pipelines.domain.evalset import reference_name, training_rows_name
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import PastRelease, ReleaseState, RunState, rollback_target
from pipelines.domain.records import (
    AddedSet,
    Evaluation,
    LeaderLease,
    PinnedVersion,
    PolicyChange,
    Promotion,
    ReleaseRecord,
    Subscriber,
)
from pipelines.domain.release import Environment
from pipelines.errors import DatabaseUnavailable, LostLease, NoRollbackTarget
from pipelines.evaluation.gates.registry import GATES
from pipelines.executor import retention
from pipelines.executor.retention import AGAIN_S, EVERY_S, Keeper
from pipelines.executor.steady_clock import STANDS_S, SteadyClock
from pipelines.governance.archiving import archiving, ask_archiving, unanswered
from pipelines.releases.services import Services
from tests.support.servers.databases import sqlite_records
from tests.support.world.bundles import make_bundle, read_description
from tests.support.world.fakes import FakeTarget
from tests.support.world.records import MODEL, add, policy_body, put_in_force, report_step
from tests.support.world.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING
A_DAY = 10
READERS = ("chat",)


class Journal:
    """A workflow engine that knows what has ended, and when."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def ended(self, *, before: str, limit: int) -> list[str]:
        return [id for id, at in self.kept.items() if at < before][:limit]

    def forget(self, work_ids: list[str]) -> None:
        for id in work_ids:
            del self.kept[id]


class Ledger:
    """Records in memory: a year of them is read in no time."""

    def __init__(self) -> None:
        self.held: dict[type, dict[str, Any]] = {}
        self.lines: list[str] = []
        self.entries: list[dict[str, Any]] = []
        self.traced: dict[str, dict[str, Any]] = {}

    @contextmanager
    def write(self) -> Iterator["Ledger"]:
        yield self

    def add(self, record: Any) -> None:
        self.held.setdefault(type(record), {})[record.id] = record

    def find(self, kind: type, **equals: object) -> list[Any]:
        held = self.held.get(kind, {})
        found = [held[equals["id"]]] if equals.get("id") in held else held.values()
        return [each for each in found if all(getattr(each, name) == value for name, value in equals.items())]

    def change(self, record: Any, **values: object) -> None:
        self.add(replace(record, **values))

    def audit(self, actor: str, action: str, phase: str, *, subject: str, detail: dict[str, Any]) -> None:
        self.entries.append(detail)

    def newest_event(self) -> int:
        return len(self.lines)

    def emit(self, kind: EventKind, *, subject: str, model: str, detail: dict[str, Any]) -> None:
        assert kind is EventKind.VERSION_TRACED
        self.traced[subject] = detail

    def events(self, *, after: int = 0, kinds: tuple[EventKind, ...] = (), subject: str = "", **_: object) -> list[Any]:
        if EventKind.VERSION_TRACED in kinds:
            return [SimpleNamespace(subject=each) for each in self.traced if subject in ("", each)]
        return [SimpleNamespace(at=at) for at in self.lines[after:]]

    def forget_progress(self, *, before: str, up_to: int, limit: int) -> int:
        kept = [at for at in self.lines if at >= before]
        count, self.lines = len(self.lines) - len(kept), kept
        return count


class Place:
    """A home whose days go by, with files of the sizes of nothing."""

    def __init__(self, home: Path, records: Any = None, **policy: Any) -> None:
        self.home, self.journal, self.target, self.at = home, Journal(), FakeTarget(), START
        self.records = records or sqlite_records(home, FileCheckpoints(home / "heads"))
        self.bundles = BundleStore(home / "bundles")
        body = policy_body(**{f"retention.{key}": value for key, value in policy.items()})
        applied = GATES.read_policy(body)
        with self.records.write() as transaction:
            at = self.now()
            transaction.add(PolicyChange("y-1", applied.digest, applied.body, "alice", at, state=RunState.DONE))
        unused = cast(Any, None)
        self.services = Services(
            records=self.records, registry=unused, target=self.target, loads=unused, jobs=unused, probe=unused,
            bundles=self.bundles, workdir=home, executor="one", model=MODEL, now=self.now,
        )  # fmt: skip
        self.keeper = self.made_keeper()
        self.count = 0

    def made_keeper(self, clock: Callable[[], datetime] | None = None) -> Keeper:
        engine = cast(Any, self.journal)
        return Keeper(self.services, engine, readers=READERS, clock=clock or (lambda: self.at))

    def now(self) -> str:
        return self.at.isoformat(timespec="milliseconds")

    def promote(self, number: int) -> list[Any]:
        """Return what a promotion that has ended leaves in the records, and leave its files."""
        version, at, n = str(number), self.now(), number
        digest, evalset = digest_of(f"bundle {n}".encode()), digest_of(f"set {n // 50}".encode())
        for name in (f"bundles/{digest.replace(':', '-')}", f"work/e-{n}"):
            (self.home / name).mkdir(parents=True)
            self.age(self.home / name)
        kept = self.home / f"evaluation-sets/{evalset.replace(':', '-')}.parquet"
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
        self.age(kept)
        self.journal.kept |= {f"e-{n}": at, f"p-{n}": at}
        done = {"state": RunState.DONE, "ended_at": at}
        made: list[Any] = [PinnedVersion(f"{MODEL}/{version}", MODEL, version, digest, evalset, at)]
        made.append(Evaluation(f"e-{n}", MODEL, version, "alice", at, bundle_digest=digest, **done))
        made.append(Promotion(f"p-{n}", MODEL, version, PRODUCTION, "alice", at, f"e-{n}", **done))
        for environment, id in ((STAGING, f"s-{n}"), (PRODUCTION, f"r-{n}")):
            served = {"state": ReleaseState.SERVING, "serving_at": at}
            kind, change = "promotion", f"p-{n}"
            made.append(ReleaseRecord(id, MODEL, environment, version, digest, kind, change, "alice", at, **served))
        return made

    def age(self, path: Path) -> None:
        os.utime(path, (self.at.timestamp(), self.at.timestamp()))

    def day(self, promotions: int = A_DAY) -> None:
        """Promote some versions, roll every fortieth one back, and let a day go by."""
        serving = {each.environment: each for each in self.records.find(ReleaseRecord, state=ReleaseState.SERVING)}
        with self.records.write() as transaction:
            for _ in range(promotions):
                self.count += 1
                for record in self.promote(self.count):
                    if isinstance(record, ReleaseRecord):
                        former = serving.get(record.environment)
                        if former:
                            left = ReleaseState.ROLLED_BACK if self.count % 40 == 0 else ReleaseState.SUPERSEDED
                            transaction.change(former, state=left, ended_at=self.now())
                        serving[record.environment] = record
                    transaction.add(record)
        self.at += timedelta(days=1)

    def needed(self) -> set[str]:
        """Return the bundles of what serves, of the way back, and of what is pinned by hand."""
        found = set()
        for environment in (STAGING, PRODUCTION):
            history = self.records.find(ReleaseRecord, environment=environment)
            found |= {each.bundle_digest for each in history if each.state is ReleaseState.SERVING}
            past = [PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in history]
            try:
                found.add(rollback_target(past).bundle_digest)
            except NoRollbackTarget:
                continue
        return found

    def removable(self) -> list[str]:
        """Return the bundles that a look finds, removing none."""
        asked = ask_archiving(self.records, person="alice", model=MODEL, dry_run=True)
        self.keeper.answer(next(each for each in unanswered(self.records, 0) if each.seq == asked))
        found = archiving(self.records, str(asked)).found
        assert found is not None
        return list(found["bundles"])

    def size(self, folder: str) -> int:
        return sum(1 for _ in (self.home / folder).iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_year_of_ten_promotions_a_day_takes_bounded_room_and_keeps_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROUND", 1000)
    monkeypatch.setattr(retention, "IMAGES_S", 600.0)
    ledger = Ledger()
    place = Place(tmp_path, ledger, keep_versions=["7"], bundle_days=28, progress_days=7)
    sizes = []
    for month in range(12):
        for _ in range(30):
            ledger.lines += [place.now()] * 3 * A_DAY
            place.day()
        while place.keeper.archive().any:
            continue
        stored = set(place.bundles.digests())
        assert place.needed() | {digest_of(b"bundle 7")} <= stored, f"month {month}"
        counts = {name: place.size(name) for name in ("bundles", "evaluation-sets", "work")}
        sizes.append({**counts, "journal": len(place.journal.kept), "lines": len(ledger.lines)})
    # Four weeks of bundles and two of all else, however long it has gone on.
    assert {**sizes[-1], "evaluation-sets": 0} == {**sizes[-6], "evaluation-sets": 0}
    assert sizes[-1]["bundles"] <= 29 * A_DAY + 1
    assert sizes[-1]["evaluation-sets"] <= 29 * A_DAY // 50 + 3
    assert sizes[-1]["work"] <= 15 * A_DAY and sizes[-1]["journal"] <= 15 * 2 * A_DAY
    assert sizes[-1]["lines"] <= 8 * A_DAY * 3
    removed = [digest for entry in ledger.entries for digest in entry["bundles"]]
    assert sorted(place.target.discarded) == sorted(removed) and len(removed) == place.count - sizes[-1]["bundles"]


def test_lines_are_kept_for_who_reads_on_and_not_for_a_name_that_no_code_has_any_more(tmp_path: Path) -> None:
    place = Place(tmp_path)
    add(place.records, Subscriber("chat", 0), Subscriber("gone", 0))
    report_step(place.records, "e-1", "K1")
    place.at = datetime.now(UTC) + timedelta(days=400)
    assert place.keeper.archive().progress == 0
    with place.records.write() as transaction:
        transaction.change(transaction.get(Subscriber, "chat"), seq=transaction.newest_event())
    assert place.keeper.archive().progress == 1


def test_where_a_version_comes_from_is_kept_before_its_bundle_is_removed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (path, digest), (damaged, other) = (make_bundle(tmp_path / "bundles", seed=seed) for seed in (1, 2))
    (damaged / "bundle.json").write_text("{}")
    pins = [
        PinnedVersion(f"{MODEL}/{n}", MODEL, str(n), each, "sha256:e", "2020") for n, each in ((1, digest), (2, other))
    ]
    add(place.records, *pins)

    place.keeper.archive()

    assert not path.exists()
    kept = {event.subject: event.detail for event in place.records.events(kinds=[EventKind.VERSION_TRACED])}
    assert set(kept) == {f"{MODEL}/1"}
    assert kept[f"{MODEL}/1"]["datasets"]["evaluation"]


def test_a_clock_that_was_set_forward_makes_nothing_old_until_it_has_stood_for_a_day(tmp_path: Path) -> None:
    place, passed_s = Place(tmp_path), [0.0]
    place.day()
    keeper = place.made_keeper(SteadyClock(place.now, known=place.now(), elapsed=lambda: passed_s[0]).read)
    place.at += timedelta(days=400)
    assert not keeper.archive().any
    passed_s[0] += STANDS_S - 1
    assert not keeper.archive().any
    place.at -= timedelta(days=400)
    assert not keeper.archive().any
    place.at += timedelta(days=400)
    passed_s[0] += STANDS_S - 1
    assert not keeper.archive().any
    passed_s[0] += STANDS_S
    assert keeper.archive().any


def test_the_ways_back_of_several_rollbacks_keep_their_bundles_however_old(tmp_path: Path) -> None:
    place = Place(tmp_path, rollbacks=3)
    for _ in range(6):
        place.day(1)
    place.at += timedelta(days=400)
    place.keeper.archive()
    # Version 6 serves; three rollbacks in a row lead to 5, 4 and 3.
    kept = {digest_of(f"bundle {number}".encode()) for number in (3, 4, 5, 6)}
    assert set(place.bundles.digests()) == kept


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.APPROVED, RunState.REQUESTED])
def test_a_promotion_that_is_not_over_keeps_its_bundle_and_its_files(tmp_path: Path, state: RunState) -> None:
    place = Place(tmp_path, rollbacks=1)
    for _ in range(5):
        place.day(1)
    with place.records.write() as transaction:
        waiting = transaction.get(Promotion, "p-1")
        transaction.change(waiting, state=state)
    place.at += timedelta(days=400)
    place.keeper.archive()
    assert digest_of(b"bundle 1") in place.bundles.digests()
    assert (place.home / "work/e-1").exists() and not (place.home / "work/e-2").exists()
    assert "p-1" in place.journal.kept and "p-2" not in place.journal.kept


def test_no_bundle_is_removed_while_anything_is_under_way(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    running = Evaluation("e-99", MODEL, "99", "alice", place.now(), state=RunState.RUNNING)
    with place.records.write() as transaction:
        transaction.add(running)
    assert place.keeper.archive().bundles == []
    assert len(place.bundles.digests()) == 8
    with place.records.write() as transaction:
        transaction.change(running, state=RunState.DONE)
    assert len(place.keeper.archive().bundles) == 2


def test_what_begins_between_looking_and_removing_keeps_its_bundles(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    look: Callable[[], Any] = place.keeper._look

    def look_late() -> Any:
        found = look()
        with place.records.write() as transaction:
            transaction.add(Evaluation("e-99", MODEL, "1", "alice", place.now(), state=RunState.RUNNING))
        return found

    monkeypatch.setattr(place.keeper, "_look", look_late)
    found = place.keeper.archive()
    assert (found.bundles, found.evaluation_sets) == ([], []) and found.work
    assert len(place.bundles.digests()) == 8


def test_what_could_not_be_recorded_is_put_back(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    (place.home / "heads").mkdir()
    with pytest.raises(DatabaseUnavailable):
        place.keeper.archive()
    assert len(place.bundles.digests()) == 8


def test_what_a_killed_round_has_set_aside_is_put_back_at_the_next_start(place: Place) -> None:
    place.day(1)
    (digest,) = place.bundles.digests()
    place.bundles.set_aside(digest)
    assert place.bundles.digests() == []
    place.made_keeper()
    assert place.bundles.digests() == [digest]


def test_what_can_not_be_removed_keeps_nothing_else_waiting_and_is_recorded_once(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    stuck = place.home / "work/e-1"
    with held(stuck):
        found = place.keeper.archive()
        assert len(found.work) == 8 and len(found.bundles) == 2
        assert [path.name for path in (place.home / "work").iterdir()] == ["e-1"]
        assert len(place.bundles.digests()) == 6 and len(place.target.discarded) == 2
        entries = len(list(place.records.audit_trail()))
        assert not place.keeper.archive().any and place.keeper.again_s == AGAIN_S
        assert len(list(place.records.audit_trail())) == entries
    assert not place.keeper.archive().any and place.keeper.again_s == EVERY_S
    assert not stuck.exists()


def test_a_bundle_that_can_not_be_removed_is_never_put_back_and_goes_later(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    (place.home / "bundles/.partial-cut-off").mkdir()
    os.utime(place.home / "bundles/.partial-cut-off", (0, 0))
    with held(place.home / f"bundles/{digest_of(b'bundle 1').replace(':', '-')}"):
        assert len(place.keeper.archive().bundles) == 2
        assert place.keeper.again_s == AGAIN_S
        place.made_keeper()
        assert len(place.bundles.digests()) == 6
    place.keeper.archive()
    assert len(list((place.home / "bundles").iterdir())) == 6 and place.keeper.again_s == EVERY_S


def test_an_image_that_is_left_is_discarded_by_a_later_round_also_of_another_executor(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    place.target.away = True
    removed = set(place.keeper.archive().bundles)
    assert place.keeper.again_s == AGAIN_S and place.target.discarded == set()
    place.target.away = False
    another = place.made_keeper()
    assert not another.archive().any
    assert place.target.discarded == removed and len(removed) == 2 and another.again_s == EVERY_S


class Refusing(FakeTarget):
    """A target whose image registry lets nothing go, while it is `away`."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.tried = True, list[str]()

    def discard(self, bundle_digest: str) -> None:
        self.tried.append(bundle_digest)
        super().discard(bundle_digest)


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A year-old home whose target refuses to discard, so slowly that a round tries one image."""
    monkeypatch.setattr(retention, "IMAGES_S", 0.0)
    place = Place(tmp_path)
    place.target = Refusing()
    place.services = Services(**{**vars(place.services), "target": place.target})
    place.keeper = place.made_keeper()
    for _ in range(9):
        place.day(1)
    place.at += timedelta(days=400)
    return place


def test_an_image_registry_that_lets_nothing_go_is_noted_once_and_tried_ever_more_seldom(
    refusing: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target, passed_s, pauses = cast(Refusing, refusing.target), 0.0, []
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: passed_s, time=time.time))
    for _ in range(15):
        refusing.keeper.archive()
        pauses.append(refusing.keeper.again_s)
        # A round that comes for something else.
        refusing.keeper.archive()
        passed_s += pauses[-1]
    assert pauses[:3] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S] and pauses[-1] == EVERY_S
    # One a round, each before any a second time.
    assert len(target.tried) == 15 and len(set(target.tried[:3])) == 3
    (noted,) = caplog.messages
    assert "the image registry does not answer" in noted

    target.away = False
    for _ in range(4):
        refusing.keeper.archive()
        passed_s += EVERY_S
    assert len(target.discarded) == 3 and refusing.keeper.again_s == EVERY_S


def test_who_asks_does_not_wait_for_images_and_has_refused_ones_tried_again(refusing: Place) -> None:
    target = cast(Refusing, refusing.target)
    ask_archiving(refusing.records, person="alice", model=MODEL, dry_run=False)
    (asked,) = unanswered(refusing.records, 0)
    refusing.keeper.archive()
    assert len(target.tried) == 1
    refusing.keeper.answer(asked)
    assert unanswered(refusing.records, 0) == [] and len(target.tried) == 1
    refusing.keeper.archive()
    assert len(target.tried) == 2


def test_after_the_answer_to_who_asked_images_are_discarded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(8):
        place.day(1)
    # The start of retention finds nothing that is old, and who asks later does.
    stop, looks = threading.Event(), iter(range(1000))
    monkeypatch.setattr(retention, "LOOK_S", 0.01)

    def chores() -> None:
        if next(looks) == 1:
            place.at += timedelta(days=400)
            ask_archiving(place.records, person="alice", model=MODEL, dry_run=False)
        if place.target.discarded:
            stop.set()

    with timer(stop):
        retention.tend(place.records, place.made_keeper, chores, stop)
    assert len(place.target.discarded) == 2


@contextmanager
def timer(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at last, whatever does not happen before."""
    waiting = threading.Timer(20.0, stop.set)
    waiting.start()
    yield
    waiting.cancel()


def test_an_image_whose_bundle_is_needed_again_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    again = digest_of(b"bundle 1")
    discard = place.target.discard

    def discard_slowly(digest: str) -> None:
        # Meanwhile an evaluation builds the next bundle again.
        discard(digest)
        for other in {again, digest_of(b"bundle 2")} - {digest}:
            (place.home / f"bundles/{other.replace(':', '-')}").mkdir()

    monkeypatch.setattr(place.target, "discard", discard_slowly)
    assert len(place.keeper.archive().bundles) == 2
    assert len(place.target.discarded) == 1
    assert len(place.bundles.digests()) == 7


def test_an_image_that_was_built_again_is_discarded_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    removed = place.keeper.archive().bundles
    assert place.target.discarded == set(removed) and len(removed) == 2
    place.target.discarded.clear()
    for digest in removed:
        folder = place.home / f"bundles/{digest.replace(':', '-')}"
        folder.mkdir()
        os.utime(folder, (0, 0))

    def full(digest: str) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(place.bundles, "set_aside", full)
        assert not place.keeper.archive().bundles
    assert sorted(place.keeper.archive().bundles) == sorted(removed)
    assert place.target.discarded == set(removed)


def test_no_image_is_discarded_once_something_has_begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    clear = place.bundles.clear_aside

    def clear_slowly(*, back: bool = False) -> None:
        clear(back=back)
        with place.records.write() as transaction:
            transaction.add(Evaluation("e-99", MODEL, "1", "alice", place.now(), state=RunState.RUNNING))
            transaction.emit(EventKind.EVALUATION_STARTED, subject="e-99")

    monkeypatch.setattr(place.bundles, "clear_aside", clear_slowly)
    assert len(place.keeper.archive().bundles) == 2
    assert place.target.discarded == set() and place.keeper.again_s == AGAIN_S


def test_retention_begins_also_where_the_first_look_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.day(1)
    (digest,) = place.bundles.digests()
    place.bundles.set_aside(digest)
    monkeypatch.setattr(retention, "LOOK_S", 0.01)
    stop, clear = threading.Event(), place.bundles.clear_aside
    times = iter(range(3))

    def fail_at_first(*, back: bool = False) -> None:
        if next(times, 9) < 2:
            raise OSError("the disk is read-only for a moment")
        clear(back=back)
        stop.set()

    monkeypatch.setattr(place.bundles, "clear_aside", fail_at_first)
    retention.tend(place.records, place.made_keeper, lambda: None, stop)
    assert place.bundles.digests() == [digest]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder from being removed, by whatever name, as one does in which something is mounted."""
    (folder / "held").touch()
    remove = shutil.rmtree

    def refuse(path: Path) -> None:
        if (path / "held").exists():
            raise OSError(errno.EBUSY, "is held", str(path))
        remove(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        yield


def test_an_executor_that_was_replaced_removes_nothing(place: Place) -> None:
    for _ in range(8):
        place.day(1)
    place.at += timedelta(days=400)
    with place.records.write() as transaction:
        transaction.add(LeaderLease("executor", "two", 1, 0.0, place.now()))
    with pytest.raises(LostLease):
        place.keeper.archive()
    assert (len(place.bundles.digests()), place.size("work")) == (8, 8)


def test_a_dry_run_only_looks_and_a_request_removes_all_rounds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROUND", 3)
    for _ in range(12):
        place.day(1)
    place.at += timedelta(days=400)
    before = len(list(place.records.audit_trail()))
    asked = [ask_archiving(place.records, person="alice", model=MODEL, dry_run=dry_run) for dry_run in (True, False)]
    dry, real = unanswered(place.records, 0)
    place.keeper.answer(dry)
    told = archiving(place.records, str(asked[0])).found
    assert told and len(told["bundles"]) == 3 and len(place.bundles.digests()) == 12
    place.keeper.answer(real)
    told = archiving(place.records, str(asked[1])).found
    assert told and len(told["bundles"]) == 6 and len(told["work"]) == 12
    assert len(place.bundles.digests()) == 6 and unanswered(place.records, 0) == []
    entries = list(place.records.audit_trail())[before:]
    assert (entries[0].actor, entries[0].phase) == ("alice", "intent")
    assert {(entry.actor, entry.action, entry.phase) for entry in entries[1:]} == {("executor", "archive", "outcome")}


def test_each_model_is_kept_by_its_own_policy(place: Place) -> None:
    other = "other-model"
    add_model(place.records, person="alice", model=other, default=MODEL, now=place.now())
    place.day(20)
    with place.records.write() as transaction:
        for record in place.promote(500):
            renamed = {"model": other, "id": f"{other}-{record.id}"}
            ended = {"state": ReleaseState.SUPERSEDED, "ended_at": place.now()}
            transaction.add(replace(record, **renamed, **(ended if isinstance(record, ReleaseRecord) else {})))
    (mine,) = [each.bundle_digest for each in place.records.find(PinnedVersion, model=other)]
    place.at += timedelta(days=120)
    assert mine in place.removable()

    put_in_force(place.records, policy_body(**{"retention.bundle_days": 365}), model=other)

    found = place.removable()
    assert found and mine not in found


def test_after_a_removal_everything_goes_on(world: World) -> None:
    versions = [world.register() for _ in range(4)]
    for version in versions:
        world.promoted(version)
    body = policy_body(**{"retention.rollbacks": 1})
    put_in_force(world.records, body)
    later = datetime.fromisoformat(now()) + timedelta(days=400)
    services = Services(**{**vars(world.services), "now": lambda: later.isoformat(timespec="milliseconds")})
    removed = Keeper(services, cast(Any, Journal()), readers=READERS, clock=lambda: later).archive()
    assert len(removed.bundles) == 2
    world.apply_policy()
    assert world.rolled_back().version == versions[2]
    # A bundle that was removed is built again, to the same digest.
    assert world.evaluated(versions[0]).state is RunState.DONE


def test_the_rows_that_what_serves_was_trained_with_are_kept_and_those_of_nothing_are_not(
    place: Place, tmp_path: Path
) -> None:
    made, _ = make_bundle(tmp_path / "made", model=MODEL)
    body = read_description(made)
    body["provenance"]["datasets"]["training_rows"] = rows = digest_of(b"rows of what serves")
    body["provenance"]["datasets"]["reference"] = reference = digest_of(b"reference of what serves")
    digest = place.bundles.put(body, {"model.onnx": made / "model.onnx"})
    served = {"state": ReleaseState.SERVING, "serving_at": place.now()}
    release = ReleaseRecord(
        "r-1", MODEL, PRODUCTION, "1", digest, "promotion", "p-1", "alice", place.now(), **served
    )  # fmt: skip
    with place.records.write() as transaction:
        transaction.add(release)
    kept = [training_rows_name(rows), reference_name(reference)]
    others = [named(digest_of(b"others")) for named in (training_rows_name, reference_name)]
    for name in (*kept, *others):
        (place.home / "evaluation-sets").mkdir(exist_ok=True)
        (place.home / "evaluation-sets" / name).touch()
        place.age(place.home / "evaluation-sets" / name)
    place.at += timedelta(days=400)
    assert place.keeper.archive().evaluation_sets == others
    assert {path.name for path in (place.home / "evaluation-sets").iterdir()} == set(kept)


def test_a_set_that_a_person_added_is_kept_however_old_and_one_that_was_refused_is_not(tmp_path: Path) -> None:
    place = Place(tmp_path)
    states = {"a": RunState.DONE, "b": RunState.RUNNING, "c": RunState.STOPPED}
    for digit, state in states.items():
        digest = f"sha256:{digit * 64}"
        file = place.home / f"evaluation-sets/{digest.replace(':', '-')}.parquet"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        place.age(file)
        add(place.records, AddedSet(f"s-{digit}", MODEL, "mine", digest, "run", "alice", place.now(), state=state))
    place.at += timedelta(days=400)

    place.keeper.archive()

    assert [path.name[7] for path in sorted((place.home / "evaluation-sets").iterdir())] == ["a", "b"]
