"""What the executor reads of sampled requests: everything once, what is lost is counted, labels make it quality."""

import errno
import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain.description import Description
from pipelines.domain.policy import RequestLog as RequestPolicy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import (
    Feedback,
    FurtherModel,
    LeaderLease,
    LiveWindow,
    ModelState,
    PinnedVersion,
    PolicyChange,
    RequestLog,
)
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import LostLease, Undecided
from pipelines.executor.requests import RequestReader
from pipelines.live import joined_files, request_files
from pipelines.live.recorded import recorded_requests
from pipelines.live.request_files import RequestFiles, feature_names, frame_of
from pipelines.releases.services import Services
from tests.support.servers.databases import sqlite_records
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.fakes import FakeTarget
from tests.support.world.records import add, policy_body
from tests.support.world.sampled import SampledReplica
from tests.support.world.typed_bundles import FEATURES, ROW, make_typed_bundle

MODEL = "toy-model"
PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING
SAMPLED = RequestPolicy(ring_rows=100)


class Place:
    """A home with a bundle, an executor that holds its lease, and a time that the tests set."""

    def __init__(self, home: Path) -> None:
        noon = datetime.now(UTC).replace(hour=12)
        self.home, self.target, self.at = home, FakeTarget(), noon
        self.records = sqlite_records(home, FileCheckpoints(home / "heads"))
        self.bundle = make_bundle(home / "bundles")
        unused = cast(Any, None)
        self.services = Services(
            records=self.records, registry=unused, target=self.target, loads=unused, jobs=unused, probe=unused,
            bundles=BundleStore(home / "bundles"), workdir=home, executor="one", model=MODEL, now=self.now,
        )  # fmt: skip
        add(self.records, LeaderLease("executor", "one", 1, 0.0, self.now()))
        self.reader = self.made_reader()

    def made_reader(self) -> RequestReader:
        return RequestReader(self.services, MODEL)

    def now(self) -> str:
        return self.at.isoformat(timespec="milliseconds")

    def replica(self, version: str = "2", environment: Environment = PRODUCTION) -> SampledReplica:
        made = SampledReplica(self.bundle, version)
        self.target.sampled.setdefault(Endpoint(MODEL, environment), []).append(made.pull)
        self.pull(environment=environment)
        return made

    def pull(self, policy: RequestPolicy = SAMPLED, environment: Environment = PRODUCTION) -> None:
        self.at += timedelta(seconds=10)
        self.reader.pull(environment, policy)

    def rows(self, version: str = "2", environment: Environment = PRODUCTION) -> list[dict[str, Any]]:
        table = RequestFiles(self.home).newest(MODEL, environment, version, 10_000)
        return sorted(table.to_pylist(), key=lambda row: int(row["seq"])) if table is not None else []

    def window(self, version: str = "2") -> LiveWindow:
        [found] = self.records.find(LiveWindow, model=MODEL, version=version, environment=PRODUCTION)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_was_asked_is_kept_with_its_answer_and_counted(place: Place) -> None:
    replica = place.replica()
    answer = replica.ask("r1", valid_row(age=30))

    place.pull()

    [row] = place.rows()
    assert (row["request_id"], row["row"], row["prediction"]) == ("r1", 0, answer.prediction)
    assert row["scores"] == [answer.probability]
    assert {name: row[f"feature.{name}"] for name in valid_row()} == valid_row(age=30)
    window = place.window()
    assert (window.seen, window.kept, window.dropped, window.lost) == (1, 1, 0, 0)
    assert window.scores["classes"] == {answer.prediction: 1} and sum(window.scores["bins"]) == 1
    [log] = place.records.find(RequestLog)
    assert log.output == {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes", "version": "2"}


def test_nothing_is_read_twice_by_a_new_executor_either(place: Place) -> None:
    replica = place.replica()
    replica.ask("r1", valid_row())
    place.pull()
    replica.ask("r2", valid_row())
    place.reader = place.made_reader()

    place.pull()
    place.pull()

    assert [row["request_id"] for row in place.rows()] == ["r1", "r2"]
    assert (place.window().seen, place.window().kept) == (2, 2)


def test_an_executor_that_died_between_the_file_and_its_record_reads_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = place.replica()
    replica.ask("r1", valid_row())
    monkeypatch.setattr(place.reader, "_note", lambda *args, **more: (_ for _ in ()).throw(Undecided("cut off")))
    with pytest.raises(Undecided):
        place.pull()
    replica.ask("r2", valid_row())
    place.reader = place.made_reader()

    place.pull()

    assert [row["request_id"] for row in place.rows()] == ["r1", "r2"]
    assert (place.window().seen, place.window().kept, place.window().dropped) == (2, 2, 0)


def test_an_executor_that_died_so_loses_nothing_that_takes_several_answers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = place.replica()
    # Two rows in an answer.
    monkeypatch.setattr("app.model.sampling.PULL_BYTES", 200)
    for number in range(8):
        replica.ask(f"r{number}", valid_row())
    with monkeypatch.context() as cut:
        cut.setattr(place.reader, "_note", lambda *args, **more: (_ for _ in ()).throw(Undecided("cut off")))
        with pytest.raises(Undecided):
            place.pull()
    assert 0 < len(place.rows()) < 8
    place.reader = place.made_reader()

    place.pull()

    assert [row["request_id"] for row in place.rows()] == [f"r{number}" for number in range(8)]
    assert (place.window().kept, place.window().dropped) == (8, 0)


def test_what_a_full_ring_gave_up_is_counted_as_dropped(place: Place) -> None:
    few = RequestPolicy(ring_rows=3)
    replica = place.replica()
    place.pull(few)
    for number in range(5):
        replica.ask(f"a{number}", valid_row())
    place.pull(few)
    for number in range(4):
        replica.ask(f"b{number}", valid_row())
    place.pull(few)

    assert [row["request_id"] for row in place.rows()] == ["a2", "a3", "a4", "b1", "b2", "b3"]
    assert (place.window().seen, place.window().kept, place.window().dropped) == (9, 6, 3)


def test_what_a_replica_that_is_gone_took_with_it_counts_as_dropped(place: Place) -> None:
    replica = place.replica()
    for number in range(20):
        replica.ask(str(number), valid_row())
    place.pull()
    place.target.sampled.clear()
    place.at += timedelta(minutes=5)

    place.pull()

    window = place.window()
    # Twenty in ten seconds, and it went somewhere within ten.
    assert (window.kept, window.dropped, window.lost) == (20, 10, 1)
    place.at += timedelta(days=1)
    place.pull()
    assert place.records.find(RequestLog)[0].replicas == {}
    assert (place.window().dropped, place.window().lost) == (10, 1)


def test_a_replica_that_was_given_up_and_answers_again_goes_on_where_it_was(place: Place) -> None:
    replica = place.replica()
    for number in range(20):
        replica.ask(str(number), valid_row())
    place.pull()
    answering, place.target.sampled = place.target.sampled, {}
    place.at += timedelta(minutes=5)
    place.pull()
    assert (place.window().seen, place.window().lost) == (20, 1)
    replica.ask("back", valid_row())
    place.target.sampled = answering
    place.reader = place.made_reader()

    place.pull()

    window = place.window()
    assert (window.seen, window.kept, window.dropped, window.lost) == (21, 21, 0, 0)
    assert [row["request_id"] for row in place.rows()] == [*map(str, range(20)), "back"]


def test_a_replica_that_does_not_answer_for_a_moment_is_not_given_up(place: Place) -> None:
    replica = place.replica()
    answering, place.target.sampled = place.target.sampled, {}
    place.pull()
    place.target.sampled = answering
    replica.ask("r1", valid_row())
    place.pull()

    assert (place.window().lost, place.window().kept) == (0, 1)


def test_staging_is_counted_and_sampled_only_where_the_policy_says_so(place: Place) -> None:
    replica = place.replica(environment=STAGING)
    replica.ask("r1", valid_row())
    place.pull(environment=STAGING)
    place.pull(RequestPolicy(staging=True), environment=STAGING)
    replica.ask("r2", valid_row())
    place.pull(RequestPolicy(staging=True), environment=STAGING)

    assert [row["request_id"] for row in place.rows(environment=STAGING)] == ["r2"]
    assert place.records.find(LiveWindow)[0].seen == 2


def test_features_that_the_policy_leaves_out_come_nowhere(place: Place) -> None:
    without = RequestPolicy(without=("income", "no such feature"))
    replica = place.replica()
    place.pull(without)
    replica.ask("r1", valid_row())
    place.pull(without)

    table = RequestFiles(place.home).newest(MODEL, PRODUCTION, "2", 10)
    assert table is not None
    assert feature_names(table) == [name for name in valid_row() if name != "income"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_type_comes_back_as_a_snapshot_has_it(place: Place, tmp_path: Path, task: str) -> None:
    place.bundle = make_typed_bundle(tmp_path / "bundles", task)
    replica = place.replica()
    golden = Description.read(place.services.bundles.body(place.bundle[1])).golden
    for number, row in enumerate(golden.rows):
        replica.ask(str(number), dict(row))
    place.pull()

    table = RequestFiles(place.home).newest(MODEL, PRODUCTION, "2", 100)
    assert table is not None and table.num_rows == len(golden.rows)
    assert place.window().dropped == 0
    frame = frame_of(table)
    assert set(frame.columns) == set(golden.rows[0])


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_no_calendar_has_in_utc_is_left_out_and_the_rest_can_be_asked_again(
    place: Place, tmp_path: Path, at: str
) -> None:
    place.bundle = make_typed_bundle(tmp_path / "bundles", "binary")
    replica = place.replica()
    replica.ask("r1", ROW)
    replica.ask("r2", ROW | {"at": at})
    place.pull()

    description = Description.read(place.services.bundles.body(place.bundle[1]))
    again = recorded_requests(place.home, description.model_copy(update={"model": MODEL}), "2", rows=10)

    assert list(again.rows) == [ROW]
    assert (place.window().kept, place.window().dropped) == (1, 1)


def test_answers_whose_sums_have_no_end_are_counted_as_numbers(place: Place, tmp_path: Path) -> None:
    place.bundle = make_typed_bundle(tmp_path / "bundles", "regression")
    replica = place.replica()
    for number, label in enumerate((1.5e308, 1.5e308, -1.5e308)):
        replica.ask(str(number), ROW | {"label": label})
        place.pull()

    scores = place.window().scores
    json.dumps(scores, allow_nan=False)
    assert (scores["count"], scores["minimum"], scores["maximum"]) == (3, -1.5e308, 1.5e308)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"[]", b"{", b'{"boot": "x"}', b'{"boot":"0123456789abcdef","digest":"sha256:0","entries":[]}',
        b'{"boot":"0123456789abcdef","digest":"sha256:' + b"0" * 64 + b'","version":"2","seen":1,"sampled":1,'
        b'"features":[],"entries":[[1,NaN,"r",0,{},[]]]}',
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused_and_keeps_nothing(place: Place, answer: bytes) -> None:
    place.target.sampled[Endpoint(MODEL, PRODUCTION)] = [lambda question: answer]

    with pytest.raises(Undecided, match="another form"):
        place.pull()

    assert place.records.find(LiveWindow) == []


def test_what_one_replica_tells_wrongly_keeps_none_of_the_others_from_being_read(place: Place) -> None:
    replica = place.replica()
    replica.ask("r1", valid_row())
    place.target.sampled[Endpoint(MODEL, PRODUCTION)].insert(0, lambda question: b"{}")

    with pytest.raises(Undecided, match="another form"):
        place.pull()

    assert [row["request_id"] for row in place.rows()] == ["r1"]


def test_rows_that_do_not_fit_the_bundle_are_left_out_and_counted(place: Place) -> None:
    replica = place.replica()
    replica.ask("good", valid_row())

    def mangled(question: bytes) -> bytes:
        return replica.pull(question).replace(b'"basic"', b'"plus"').replace(b'"plus"', b'"no such plan"')

    place.target.sampled[Endpoint(MODEL, PRODUCTION)] = [mangled]
    place.pull()

    assert (place.rows(), place.window().kept, place.window().dropped) == ([], 0, 1)


def test_a_frozen_executor_that_wakes_writes_nothing(place: Place) -> None:
    replica = place.replica()
    replica.ask("r1", valid_row())
    with place.records.write() as transaction:
        transaction.put(LeaderLease("executor", "other", 1, 0.0, place.now()))

    with pytest.raises(LostLease):
        place.pull()

    assert place.rows() == []


def labelled(place: Place, *labels: tuple[str, Any], id: str = "f-1") -> None:
    listed = [{"request_id": request_id, "row": 0, "label": label} for request_id, label in labels]
    add(place.records, Feedback(id, MODEL, "alice", "sha256:f", len(listed), listed, place.now()))


def test_labels_make_quality_and_the_last_one_of_a_row_counts(place: Place) -> None:
    replica = place.replica()
    answers = {str(number): replica.ask(str(number), valid_row(age=20 + number)).prediction for number in range(6)}
    place.pull()
    other = {"No": "Yes", "Yes": "No"}
    labelled(place, *[(id, answer) for id, answer in answers.items()], ("never asked", "Yes"))
    labelled(place, ("0", other[answers["0"]]), id="f-2")

    assert place.reader.take_labels()
    place.reader.measure(SAMPLED)

    quality = place.window().quality
    assert quality is not None
    assert (quality["labelled"], quality["accuracy"]) == (6, pytest.approx(5 / 6))
    assert quality["accuracy_low"] < 5 / 6 < quality["accuracy_high"] and quality["log_loss"] > 0
    done = place.records.find(Feedback)
    assert [(each.state, each.labels) for each in done] == [(RunState.DONE, []), (RunState.DONE, [])]
    assert not place.reader.take_labels()


def test_the_quality_of_a_regression_is_of_numbers(place: Place, tmp_path: Path) -> None:
    place.bundle = make_typed_bundle(tmp_path / "bundles", "regression")
    replica = place.replica()
    golden = Description.read(place.services.bundles.body(place.bundle[1])).golden
    told = {str(number): replica.ask(str(number), dict(row)).prediction for number, row in enumerate(golden.rows)}
    place.pull()
    labelled(place, *[(id, value + 1.0) for id, value in told.items()])
    place.reader.take_labels()
    place.reader.measure(SAMPLED)

    quality = place.window().quality
    assert quality is not None
    assert (quality["rmse"], quality["mae"]) == (pytest.approx(1.0), pytest.approx(1.0))


def test_labels_of_two_tasks_and_of_classes_that_are_fractions_are_each_of_their_version(
    place: Place, tmp_path: Path
) -> None:
    place.bundle = make_typed_bundle(tmp_path / "bundles", "multiclass")
    older = place.replica("2")
    digest = place.bundle[1]
    add(place.records, PinnedVersion(f"{MODEL}/2", MODEL, "2", digest, "sha256:e", place.now()))
    golden = Description.read(place.services.bundles.body(digest)).golden
    told = {f"a{number}": older.ask(f"a{number}", dict(row)) for number, row in enumerate(golden.rows)}
    place.pull()
    place.bundle = make_typed_bundle(tmp_path / "bundles", "regression")
    newer = place.replica("3")
    values = {f"b{number}": newer.ask(f"b{number}", dict(row)) for number, row in enumerate(golden.rows)}
    place.pull()
    labelled(place, *[(id, float(answer.prediction)) for id, answer in values.items()])
    labelled(place, *[(id, answer.prediction) for id, answer in told.items()], id="f-2")
    place.reader.take_labels()

    place.reader.measure(SAMPLED)

    of_classes, of_numbers = place.window("2").quality, place.window("3").quality
    assert of_classes is not None and (of_classes["labelled"], of_classes["accuracy"]) == (len(told), 1.0)
    assert of_numbers is not None and (of_numbers["labelled"], of_numbers["rmse"]) == (len(values), 0.0)


def test_labels_that_can_not_be_kept_keep_nothing_else_from_being_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(place.records, PolicyChange("p-1", "sha256:p", policy_body(), "alice", place.now(), state=RunState.DONE))
    pulled(place, 1)
    labelled(place, ("r0", "Yes"))
    place.at += timedelta(days=30)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place.reader, "pull", lambda *_: None)
    monkeypatch.setattr(RequestFiles, "add_labels", full)
    with pytest.raises(OSError, match="No space"):
        place.reader.look()

    assert RequestFiles(place.home).files(MODEL) == []
    assert place.records.find(Feedback, state=RunState.REQUESTED)


def test_what_is_too_old_goes_and_the_oldest_of_too_much(place: Place) -> None:
    replica = place.replica()
    replica.ask("old", valid_row())
    place.pull()
    files = RequestFiles(place.home)
    assert len(files.files(MODEL)) == 1
    files.add_labels("removed-model", place.at.date(), "f-9", [("old", 0, "Yes")])
    files.add_labels("other-model", place.at.date(), "f-8", [("old", 0, "Yes")])
    add(place.records, FurtherModel("removed-model", "alice", place.now(), ModelState.ARCHIVED))
    add(place.records, FurtherModel("other-model", "alice", place.now()))

    place.at += timedelta(days=3)
    place.reader.forget(RequestPolicy(days=14))
    assert len(files.files(MODEL)) == len(files.files("removed-model")) == 1
    place.reader.forget(RequestPolicy(days=2))
    assert files.files(MODEL) == [] and files.windows(MODEL, PRODUCTION) == []
    # Nobody else looks after those of a model that was removed.
    assert (files.files("removed-model"), len(files.files("other-model"))) == ([], 1)

    for number in range(3):
        replica.ask(str(number), valid_row())
        place.pull()
    size = sum(each for _, _, each in files.files(MODEL))
    assert files.forget(MODEL, before=datetime(2000, 1, 1, tzinfo=UTC).date(), most_bytes=size - 1)[0] == 1
    assert len(files.files(MODEL)) == 2


def test_a_file_that_nobody_can_read_keeps_nothing_else_from_being_read(place: Place) -> None:
    replica = place.replica()
    replica.ask("r1", valid_row())
    place.pull()
    [(_, path, _)] = RequestFiles(place.home).files(MODEL)
    (path.parent / f"{'0' * 16}-{1:016d}.parquet").write_bytes(b"no parquet")

    assert [row["request_id"] for row in place.rows()] == ["r1"]


def test_of_more_rows_than_are_wanted_each_file_gives_its_share(place: Place) -> None:
    place.at = datetime.now(UTC)
    for replica, rows in enumerate((60, 30, 10)):
        asked = place.replica()
        for number in range(rows):
            asked.ask(f"{replica}-{number:02}", valid_row())
        place.pull()
    since = datetime.now(UTC) - timedelta(hours=1)
    files = RequestFiles(place.home)

    spread = files.spread(MODEL, PRODUCTION, "2", since, 20)

    assert spread is not None
    assert (spread.of, spread.table.num_rows) == (100, 20)
    drawn = sorted(spread.table["request_id"].to_pylist())
    assert Counter(each[0] for each in drawn) == {"0": 12, "1": 6, "2": 2}
    every = [int(each[2:]) for each in drawn if each[0] == "0"]
    assert {later - earlier for earlier, later in itertools.pairwise(every)} == {5}
    whole = files.spread(MODEL, PRODUCTION, "2", since, 1000)
    assert whole is not None and len(set(whole.table["request_id"].to_pylist())) == whole.of == 100


def test_rows_that_are_long_are_drawn_only_as_far_as_memory_is_given(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_files, "MOST_BYTES", 100_000)
    long = [{**each, "maximum_length": 10_000} if each["name"] == "words" else each for each in FEATURES]
    place.bundle = make_typed_bundle(tmp_path / "bundles", "binary", changes={"features": long})
    place.at = datetime.now(UTC)
    replica = place.replica()
    for number in range(60):
        replica.ask(f"r{number:02}", ROW | {"words": "x" * 10_000})
        place.pull()
    files, since = RequestFiles(place.home), datetime.now(UTC) - timedelta(hours=1)

    spread, newest = files.spread(MODEL, PRODUCTION, "2", since, 1000), files.newest(MODEL, PRODUCTION, "2", 1000)

    assert spread is not None and newest is not None
    assert spread.of == 60
    for table in (spread.table, newest):
        assert table.num_rows >= 4 and table.nbytes <= 100_000
    # Still of the whole time, and still the newest.
    drawn = sorted(spread.table["request_id"].to_pylist())
    assert drawn[0] < "r15" and drawn[-1] > "r45"
    assert newest["request_id"].to_pylist()[0] == "r59"


def test_rows_of_before_the_window_and_of_other_versions_are_not_among_them(place: Place) -> None:
    place.replica().ask("r1", valid_row())
    place.replica("3").ask("r2", valid_row())
    place.pull()
    files = RequestFiles(place.home)

    among = files.spread(MODEL, PRODUCTION, "3", datetime.now(UTC) - timedelta(hours=1), 10)

    assert among is not None and among.table["request_id"].to_pylist() == ["r2"]
    assert files.spread(MODEL, PRODUCTION, "2", datetime.now(UTC) + timedelta(minutes=1), 10) is None
    assert files.spread(MODEL, PRODUCTION, "4", datetime.now(UTC) - timedelta(hours=1), 10) is None


def pulled(place: Place, count: int, *, name: str = "r") -> SampledReplica:
    """Have a replica asked so often, a file each time."""
    replica = place.replica()
    for number in range(count):
        replica.ask(f"{name}{number}", valid_row(age=20 + number))
        place.pull()
    return replica


def tomorrow(place: Place) -> Any:
    return datetime.now(UTC).date() + timedelta(days=1)


def test_the_files_of_a_day_that_is_over_become_one_and_no_row_counts_twice_meanwhile(place: Place) -> None:
    replica = pulled(place, 5)
    files = RequestFiles(place.home)
    before = place.rows()

    assert files.join(MODEL, today=tomorrow(place)) == 0
    folder = files.files(MODEL)[0][1].parent
    assert (len(list(folder.iterdir())), len(files.files(MODEL))) == (6, 1)
    assert place.rows() == before
    assert files.join(MODEL, today=tomorrow(place)) == 5
    assert len(list(folder.iterdir())) == 1 and place.rows() == before
    ids = pa.array([f"r{number}" for number in range(5)])
    assert files.answers(files.windows(MODEL, PRODUCTION)[0], ids).num_rows == 5  # type: ignore[union-attr]

    # Nothing of it is read of the replica again, by a new executor either.
    replica.ask("late", valid_row())
    place.reader = place.made_reader()
    place.pull()
    assert [row["request_id"] for row in place.rows()] == ["r0", "r1", "r2", "r3", "r4", "late"]
    assert files.newest(MODEL, PRODUCTION, "2", 1)["request_id"].to_pylist() == ["late"]  # type: ignore[index]


def test_a_day_that_goes_on_keeps_few_files_as_they_are(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled(place, 3)
    files = RequestFiles(place.home)
    today = datetime.now(UTC).date()

    files.join(MODEL, today=today)
    assert len(files.files(MODEL)) == 3
    monkeypatch.setattr(joined_files, "JOINED_FILES", 3)
    files.join(MODEL, today=today)
    assert len(files.files(MODEL)) == 1 and len(place.rows()) == 3


def test_a_join_that_is_cut_off_has_changed_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled(place, 3)
    files, before = RequestFiles(place.home), place.rows()

    def full(*args: Any, **more: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.utime", full)
        files.join(MODEL, today=tomorrow(place))
    assert place.rows() == before and len(files.files(MODEL)) == 3
    assert not list((place.home / "requests").rglob("*.partial"))
    files.join(MODEL, today=tomorrow(place))
    assert place.rows() == before and len(files.files(MODEL)) == 1


def test_what_has_other_columns_or_can_not_be_read_is_no_part_of_it(place: Place) -> None:
    replica = pulled(place, 2)
    without = RequestPolicy(ring_rows=100, without=("income",))
    place.pull(without)
    for number in range(2):
        replica.ask(f"w{number}", valid_row())
        place.pull(without)
    files = RequestFiles(place.home)
    names = sorted(path for _, path, _ in files.files(MODEL))
    damaged = names[1].with_name(names[1].name.replace("2.parquet", "9.parquet"))
    damaged.write_bytes(b"no parquet")
    kept = [row["request_id"] for row in place.rows()]

    for _ in range(2):
        files.join(MODEL, today=tomorrow(place))

    assert [row["request_id"] for row in place.rows()] == kept == ["r0", "r1", "w0", "w1"]
    left = sorted(path.name.count("-") for path in damaged.parent.iterdir())
    assert left == [1, 2, 2] and damaged.exists()


def test_nothing_is_joined_over_a_file_that_nobody_can_read(place: Place) -> None:
    pulled(place, 5)
    files = RequestFiles(place.home)
    names = sorted(path for _, path, _ in files.files(MODEL))
    names[1].write_bytes(content := b"no parquet")
    kept = place.rows()

    for _ in range(2):
        files.join(MODEL, today=tomorrow(place))

    assert place.rows() == kept and names[1].read_bytes() == content
    assert [path.name.count("-") for path in sorted(names[0].parent.iterdir())] == [1, 1, 2]
