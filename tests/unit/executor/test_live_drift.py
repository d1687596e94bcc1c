"""What production is asked is compared with what its version was trained on: it warns, once, and is in nobody's way."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.bundle import Feature
from pipelines.domain.description import Answer, Description
from pipelines.domain.events import EventKind
from pipelines.domain.live_drift import Look, Seen
from pipelines.domain.records import LeaderLease, LiveDrift
from pipelines.errors import JobFailed, LostLease
from pipelines.evaluation.gates.registry import GATES
from pipelines.executor.live_drift import DriftEye
from pipelines.governance.live_drift import live_drift, look_subject
from pipelines.governance.notifications import notifying
from pipelines.governance.progress import progress_of
from pipelines.governance.subscribers import Subscriptions
from pipelines.live.request_files import Pulled, RequestFiles
from pipelines.live.told import Sampled
from pipelines.packaging.served import request_value
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import JobBounds, never_ending
from tests.support.world.fakes import FakeJobs
from tests.support.world.world import MODEL, PRODUCTION, World, policy_body

KINDS = (EventKind.LIVE_DRIFT_APPEARED, EventKind.LIVE_DRIFT_ENDED)


class Production:
    """A version in production, what it is asked, and the looks at that."""

    def __init__(self, world: World, plants_home: Path, **registered: Any) -> None:
        self.world, self.records = world, world.records
        self.version = world.register(**registered)
        world.promoted(self.version)
        self.trained_on = read_snapshot(plants_home / "data/snapshots/reference.parquet").frame
        self.eye = DriftEye(world.services, MODEL)
        self.looks_asked_for()

    def looks_asked_for(self, **drift: Any) -> None:
        """Have looks made when somebody asks alone, at rows from 30 on."""
        body = policy_body()
        body["requests"] = {"drift": {"every_s": 0, "minimum_rows": 30, **drift}}
        commands.request_policy(self.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
        self.world.round()

    def asked(self, frame: pd.DataFrame, *, hours_ago: float = 1.0, without: tuple[str, ...] = ()) -> None:
        """Keep rows as the sampled requests of a time."""
        release = self.world.services.serving(MODEL, PRODUCTION)
        assert release is not None
        described = Description.read(self.world.services.bundles.body(release.bundle_digest)).features
        features = [each for each in map(Feature.read, described) if each.name not in without]
        at = datetime.now(UTC) - timedelta(hours=hours_ago)
        rows = [
            Sampled(number, at, f"r{number}", 0, Answer(prediction="yes", probability=0.5), values)
            for number, values in enumerate(zip(*(self._values(frame, each) for each in features), strict=True))
        ]
        boot = f"{len(RequestFiles(self.world.services.workdir).files(MODEL)):016x}"
        pulled = Pulled(MODEL, PRODUCTION, self.version, boot, features, rows)
        RequestFiles(self.world.services.workdir).add(pulled)

    def _values(self, frame: pd.DataFrame, feature: Feature) -> list[Any]:
        return [request_value(feature, value) for value in frame[feature.name]]

    def moved(self) -> pd.DataFrame:
        return self.trained_on.assign(height=self.trained_on["height"] + 40)

    def forget(self) -> None:
        RequestFiles(self.world.services.workdir).forget(MODEL, before=datetime.max.date(), most_bytes=0)

    def look(self) -> Look:
        """Ask for a look and return it."""
        number = commands.request_look(self.records, model=MODEL)
        self.eye.look()
        known = self.known()
        assert known.answered == number
        return Look.model_validate(known.look)

    def known(self) -> LiveDrift:
        return live_drift(self.records, MODEL)

    def told(self) -> list[EventKind]:
        return [event.kind for event in self.records.events(kinds=KINDS)]


@pytest.fixture
def production(world: World, plants_home: Path) -> Production:
    return Production(world, plants_home)


def test_requests_like_the_training_are_alike_and_tell_nobody(production: Production) -> None:
    production.asked(production.trained_on)

    look = production.look()

    assert (look.seen, look.version, look.against) == (Seen.ALIKE, production.version, "its training")
    assert {each.name for each in look.features} == {"height", "age", "potted", "soil"}
    assert max(each.distance.value for each in look.features) < 0.05
    assert look.rows_now == look.rows_kept == len(production.trained_on) == look.rows_before
    assert look.together is not None and look.together.low < 0.55
    assert production.told() == [] and not production.known().drifted


def test_drift_is_told_when_it_appears_and_when_it_ends_and_not_each_time(production: Production) -> None:
    lines: list[str] = []
    subscriptions = Subscriptions(production.records)
    subscriptions.subscribe("chat", notifying(lines.append))
    production.asked(production.moved())

    look = production.look()
    production.look()

    assert (look.seen, look.drifted, look.features[0].name) == (Seen.DRIFTED, ("height",), "height")
    moved = look.features[0]
    assert look.limit is not None and moved.distance.low > look.limit.distance
    assert float(moved.typical_now) == pytest.approx(float(moved.typical_before) + 40, abs=0.1)
    assert "1 of 4 features have drifted beyond 0.25: height 0." in look.why
    assert production.told() == [EventKind.LIVE_DRIFT_APPEARED]

    # Nothing that was said of rows that are gone is taken back by too few others.
    production.forget()
    production.asked(production.trained_on.head(10))
    assert production.look().seen is Seen.INCONCLUSIVE
    assert production.known().drifted and production.told() == [EventKind.LIVE_DRIFT_APPEARED]

    production.asked(production.trained_on)
    assert production.look().seen is Seen.ALIKE
    assert production.told() == list(KINDS)
    audited = [entry for entry in production.records.audited(f"{MODEL}/production") if entry.action == "live.drift"]
    assert [entry.detail["drifted"] for entry in audited] == [True, False]
    subscriptions.deliver()
    assert [line.partition(":")[0] for line in lines] == [
        f"what {MODEL}/production is asked is not like what version 1 was trained on",
        f"what {MODEL}/production is asked is like what version 1 was trained on again",
    ]
    assert [each["seen"] for each in production.known().history] == ["drifted", "drifted", "inconclusive", "alike"]


def test_with_too_few_rows_it_is_said_how_many_are_needed_and_nothing_is_run(production: Production) -> None:
    production.asked(production.moved().head(29))
    production.asked(production.moved(), hours_ago=30)
    before = len(production.world.jobs.bounds)

    look = production.look()

    assert (look.seen, look.rows_now, look.rows_needed) == (Seen.INCONCLUSIVE, 29, 30)
    assert look.why == "29 rows that were asked in 24 hours are kept; 30 are needed"
    assert len(production.world.jobs.bounds) == before


def test_a_training_of_too_few_rows_proves_nothing_either(production: Production) -> None:
    production.looks_asked_for(minimum_rows=500)
    production.asked(pd.concat([production.moved()] * 10))

    look = production.look()

    assert look.seen is Seen.INCONCLUSIVE and look.features == ()
    assert "of its training; 500 of each are needed" in look.why


def test_a_feature_that_is_not_sampled_is_named_as_not_measured(production: Production) -> None:
    production.asked(production.moved(), without=("height",))

    look = production.look()

    assert look.seen is Seen.ALIKE
    assert [(each.name, each.why) for each in look.not_measured] == [("height", "not sampled")]
    assert look.of_features == 3


def test_of_a_version_that_logged_no_rows_those_that_judged_it_stand_in(world: World, plants_home: Path) -> None:
    production = Production(world, plants_home, reference=None)
    production.asked(production.moved())

    look = production.look()

    assert (look.seen, look.against) == (Seen.DRIFTED, "the rows that it was judged by")


def test_the_limits_are_those_of_the_gate(production: Production) -> None:
    body = policy_body()
    body["requests"] = {"drift": {"every_s": 0, "minimum_rows": 30}}
    body["gates"]["drift"] = {"distance": 1.0, "auc": 1.0}
    policy = GATES.read_policy(body)
    commands.request_policy(production.records, person="alice", model=MODEL, policy=policy, now=now())
    production.world.round()
    production.asked(production.moved())

    assert production.look().seen is Seen.ALIKE


def test_without_a_version_in_production_somebody_who_asks_is_told(world: World) -> None:
    commands.request_look(world.records, model=MODEL)
    DriftEye(world.services, MODEL).look()

    known = live_drift(world.records, MODEL)
    assert known.answered == 1 and known.look is not None
    assert (known.look["seen"], known.look["why"]) == ("inconclusive", "nothing is in production")


def test_it_is_measured_at_an_interval_and_not_anew_by_the_next_executor(production: Production) -> None:
    production.eye.look()
    assert production.known().look is None

    production.looks_asked_for(every_s=3600)
    production.asked(production.trained_on)
    production.eye.look()
    first = production.known().look
    assert first is not None and first["seen"] == "alike"
    production.eye.look()
    DriftEye(production.world.services, MODEL).look()
    assert production.known().look == first

    # Another version is another training. Its answers differ from those that were made up here.
    production.forget()
    production.world.promoted(production.world.register())
    production.eye.look()
    assert (production.known().look or {})["version"] == "2"


def test_it_waits_while_a_version_is_measured_and_says_for_what(production: Production) -> None:
    production.asked(production.trained_on)
    evaluation = commands.request_evaluation(
        production.records, person="alice", model=MODEL, version="1", override=None, now=now()
    )
    commands.request_look(production.records, model=MODEL)

    production.eye.look()
    production.eye.look()

    known = production.known()
    assert (known.look, known.answered) == (None, 0)
    told = progress_of(production.records, look_subject(known, 1))
    assert [line.message for line in told] == [f"{evaluation.id} is measured first"]


class Interrupted(FakeJobs):
    """Runs a job in the midst of which something happens."""

    meanwhile: Callable[[], object]

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        self.meanwhile()
        return super().run(task, files, bounds, check=check)


def test_its_job_ends_when_a_version_is_to_be_measured(production: Production, tmp_path: Path) -> None:
    jobs = Interrupted(tmp_path / "interrupted")
    jobs.meanwhile = lambda: commands.request_evaluation(
        production.records, person="alice", model=MODEL, version="1", override=None, now=now()
    )
    production.eye = DriftEye(replace(production.world.services, jobs=jobs), MODEL)
    production.asked(production.trained_on)
    commands.request_look(production.records, model=MODEL)

    production.eye.look()

    assert production.known().answered == 0
    assert list((tmp_path / "work").glob("live-drift-*")) == []


FORGED: list[dict[str, Any]] = [
    {},
    {"moves": {"rows_before": 1000, "rows_now": 1000}},
    {"moves": {"rows_before": 1000, "rows_now": 1000, "left_out": ["height", "age", "potted", "soil", "more"]}},
    {"moves": {"rows_before": 1000, "rows_now": 1000, "left_out": ["height", "age", "potted", "potted"]}},
    {"moves": {"rows_before": -1, "rows_now": 0}},
    {"moves": {"rows_before": 1000, "rows_now": 1000, "together": {"value": 2, "low": 0, "high": 1}}},
    {"moves": {"rows_before": 1000, "rows_now": 1000, "together": {"value": 0.5, "low": 0.6, "high": 0.4}}},
]


@pytest.mark.parametrize("answer", [b"no json", *(json.dumps(each).encode() for each in FORGED)])
def test_an_answer_of_another_form_is_an_error_and_changes_nothing_else(production: Production, answer: bytes) -> None:
    production.asked(production.trained_on)
    production.world.jobs.answer = answer

    look = production.look()

    assert (look.seen, look.features) == (Seen.ERROR, ())
    assert "confined job answered" in look.why
    assert production.told() == []


def test_a_job_that_met_a_bound_is_an_error(production: Production) -> None:
    production.asked(production.trained_on)
    production.world.jobs.answer = JobFailed("took longer than 300 s", next="")

    assert (production.look().seen, production.look().why) == (Seen.ERROR, "took longer than 300 s")


def test_a_frozen_executor_that_wakes_records_nothing(production: Production) -> None:
    with production.records.write() as transaction:
        transaction.put(LeaderLease("executor", "other", 1, 0.0, now()))
    commands.request_look(production.records, model=MODEL)

    with pytest.raises(LostLease):
        production.eye.look()

    assert production.known().look is None


def test_history_is_kept_as_long_as_requests_and_of_a_wait_for_rows_once(production: Production) -> None:
    production.look()
    production.look()
    assert len(production.known().history) == 1

    old = {**production.known().history[0], "at": "2020-01-01T00:00:00.000+00:00", "seen": "alike"}
    with production.records.write() as transaction:
        transaction.change(production.known(), history=[old, *production.known().history])
    production.look()
    assert [each["at"] for each in production.known().history] == [(production.known().look or {})["at"]]
