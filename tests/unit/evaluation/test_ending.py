"""Evaluations that end before they are done: cancelled by a person, or too late; and jobs that meet their bounds."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Lease, Promotion
from pipelines.domain.release import Endpoint, Release, Slot
from pipelines.errors import Cancelled, DatabaseUnavailable, JobFailed, Overdue
from pipelines.evaluation import ending
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.gates.registry import GATES
from pipelines.governance.progress import progress_of
from pipelines.releases.machine import boot_clock
from pipelines.releases.stalled import QUIET_S
from tests.support.world.trained import EVALUATION_ROWS
from tests.support.world.world import MODEL, STAGING, World, policy_body


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_LOOK_S", 0.0)


def asked(world: World) -> Evaluation:
    return commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )


def assert_nothing_is_left(world: World, evaluation: Evaluation) -> None:
    assert world.records.find(Lease, holder=evaluation.id) == []
    assert world.serving(STAGING) is None
    for slot in (Slot.TRIAL, Slot.BASELINE):
        assert world.target.observe(Endpoint(MODEL, STAGING), slot).release is None


@pytest.mark.parametrize(
    "at", ["packaging", "offline gates", "trial started in staging", "first request timed", "smoke and contract"]
)
def test_an_evaluation_is_cancelled_before_its_next_step(world: World, at: str) -> None:
    evaluation = asked(world)

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == at:
            commands.cancel_evaluation(world.records, person="bob", id=evaluation.id)
        return action()

    evaluate(world.services, evaluation.id, step)
    ended = world.records.get(Evaluation, evaluation.id)
    assert ended.state is RunState.STOPPED
    assert ended.error is not None
    assert (ended.error["code"], ended.error["message"]) == (Cancelled.code, f"{ended.id} was cancelled by bob")
    assert_nothing_is_left(world, evaluation)


def test_an_evaluation_that_is_cancelled_as_it_takes_its_lease_ends_by_itself_and_loses_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation, stop = asked(world), world.target.stop
    # What one before it has left is emptied as soon as it has the lease.
    world.target.start(Release("trial-e-0", MODEL, STAGING, "1", "sha256:0"), Slot.TRIAL, epoch=1)

    def cancelled_meanwhile(endpoint: Endpoint, slot: Slot, *, epoch: int) -> None:
        stop(endpoint, slot, epoch=epoch)
        commands.cancel_evaluation(world.records, person="bob", id=evaluation.id)
        world.round()

    with monkeypatch.context() as emptying:
        emptying.setattr(world.target, "stop", cancelled_meanwhile)
        evaluate(world.services, evaluation.id, world.step)
    assert (world.records.get(Evaluation, evaluation.id).error or {})["code"] == "cancelled"
    assert_nothing_is_left(world, evaluation)


def test_a_load_run_that_goes_on_is_ended_and_the_trial_undone(world: World) -> None:
    evaluation = asked(world)
    world.loads.meanwhile = lambda: commands.cancel_evaluation(world.records, person="bob", id=evaluation.id) and None
    evaluate(world.services, evaluation.id, world.step)
    ended = world.records.get(Evaluation, evaluation.id)
    assert ended.error is not None
    assert ended.error["code"] == Cancelled.code
    assert ended.report is None
    assert_nothing_is_left(world, evaluation)


def test_a_step_that_takes_long_tells_that_it_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = asked(world)
    told: list[list[str]] = []
    # A whole number, so that sums of half minutes are exact.
    clock = [1_000.0]
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def run_for(minutes: float) -> None:
        known = len(progress_of(world.records, evaluation.id))
        for _ in range(int(minutes * 2)):
            clock[0] += 30
            checks[0]()
        told.append([f"{line.step}: {line.message}" for line in progress_of(world.records, evaluation.id)[known:]])

    checks: list[Callable[[], None]] = []
    run = world.loads.run

    def running(*arguments: Any, check: Callable[[], None], **more: Any) -> Any:
        checks.append(check)
        run_for(4)
        run_for(16)
        return run(*arguments, check=check, **more)

    monkeypatch.setattr(world.loads, "run", running)
    evaluate(world.services, evaluation.id, world.step)
    assert told == [[], [f"latency SLO under load: has gone on for {minutes} min" for minutes in (5, 10, 15, 20)]]
    assert world.records.get(Evaluation, evaluation.id).verdict == "passed"
    assert ending._TELL_S * 2 < QUIET_S


def test_a_database_that_is_away_keeps_no_step_from_going_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_TELL_S", 0.0)

    def away(*arguments: str) -> None:
        raise DatabaseUnavailable("the database can't record")

    going = ending.Ending(world.services, asked(world))

    def measured() -> str:
        going.check()
        return "measured"

    monkeypatch.setattr(type(world.services), "note", away)
    assert going.before_each(lambda name, action: action())("slo", measured) == "measured"


def test_a_promotion_that_waits_for_it_stops_with_its_reason(world: World) -> None:
    version = world.register()
    promotion = commands.request_promotion(
        world.records, person="alice", model=MODEL, version=version, override=None, now=now()
    )
    commands.cancel_evaluation(world.records, person="alice", id=promotion.evaluation_id)
    world.round()
    for ended in (
        world.records.get(Promotion, promotion.id),
        world.records.get(Evaluation, promotion.evaluation_id),
    ):
        assert ended.state is RunState.STOPPED
        assert ended.error is not None
        assert ended.error["code"] == Cancelled.code


def test_an_evaluation_that_takes_longer_than_its_policy_allows_is_stopped(world: World) -> None:
    body = policy_body()
    body["evaluation"]["deadline_s"] = 1e-9
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    assert evaluation.error["code"] == Overdue.code
    assert "evaluation.deadline_s" in evaluation.error["next"]
    assert_nothing_is_left(world, evaluation)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same machine", "another machine"])
def test_the_deadline_counts_from_the_beginning_whatever_executor_goes_on(world: World, elsewhere: bool) -> None:
    evaluation = asked(world)

    def dying(name: str, action: Callable[[], Any]) -> Any:
        if name == "offline gates":
            raise KeyboardInterrupt
        return action()

    with pytest.raises(KeyboardInterrupt):
        evaluate(world.services, evaluation.id, dying)
    begun = world.records.get(Evaluation, evaluation.id).begun
    assert begun is not None
    long_ago = {**begun, "boot_s": begun["boot_s"] - 7201.0}
    if elsewhere:
        at = datetime.fromisoformat(begun["at"]) - timedelta(seconds=7201)
        long_ago = {**begun, "boot_id": "another", "at": at.isoformat()}
    with world.records.write() as transaction:
        transaction.change(evaluation, begun=long_ago)
    evaluate(world.services, evaluation.id, world.step)
    ended = world.records.get(Evaluation, evaluation.id)
    assert (ended.error or {})["code"] == Overdue.code
    assert ended.begun == long_ago
    assert_nothing_is_left(world, evaluation)


def test_a_step_of_the_clock_on_the_wall_makes_no_evaluation_overdue(world: World) -> None:
    evaluation = asked(world)
    at = (datetime.fromisoformat(now()) - timedelta(days=1)).isoformat()
    with world.records.write() as transaction:
        transaction.change(evaluation, begun={"at": at, **dict(zip(("boot_id", "boot_s"), boot_clock(), strict=True))})
    evaluate(world.services, evaluation.id, world.step)
    assert world.records.get(Evaluation, evaluation.id).state is RunState.DONE


def test_a_policy_from_before_deadlines_has_the_defaults(world: World) -> None:
    body = {key: value for key, value in policy_body().items() if key != "evaluation"}
    assert GATES.read_policy(body).evaluation.deadline_s == 7200


def test_files_that_can_not_be_read_within_the_bounds_are_not_servable(world: World) -> None:
    world.jobs.answer = JobFailed("the confined job took longer than 300 s", next="register a smaller one")
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    told = "version 1 of plant-model can't be served: the confined job took longer than 300 s"
    assert (evaluation.error["code"], evaluation.error["message"]) == ("not_servable", told)
    assert_nothing_is_left(world, evaluation)
    assert (world.jobs.bounds[0].wall_s, world.jobs.bounds[0].memory_mb) == (300, 2048)


def evaluated_with(world: World, answer: bytes | Exception) -> Evaluation:
    """Evaluate a new version whose offline gates are answered so."""
    evaluation = asked(world)

    def step(name: str, action: Callable[[], Any]) -> Any:
        done = action()
        if name == "packaging":
            world.jobs.answer = answer
        return done

    evaluate(world.services, evaluation.id, step)
    return world.records.get(Evaluation, evaluation.id)


GATE = {"name": "digest", "verdict": "passed", "message": "", "observed": None, "interval": None, "limit": None}
UNKNOWN = {**GATE, "name": "made_up"}
OFFLINE = [{**GATE, "name": gate.name} for gate in (*GATES.of_the_bundle, *GATES.of_the_model)]


@pytest.mark.parametrize(
    "answer",
    [
        JobFailed("the confined job needed more than 2,048 MB of memory"),
        b"",
        b"\xff",
        b"[]",
        b'{"results": []}',
        b'{"results": [NaN]}',
        json.dumps({"results": OFFLINE[:-1]}).encode(),
        json.dumps({"results": [GATE]}).encode(),
        json.dumps({"results": [*OFFLINE, UNKNOWN]}).encode(),
        json.dumps({"results": [*OFFLINE[1:], {**GATE, "message": "x" * 5000}]}).encode(),
        json.dumps({"results": [*OFFLINE[1:], {**GATE, "name": "digest.\x1b[2K"}]}).encode(),
        json.dumps({"results": OFFLINE, "more": 1}).encode(),
        json.dumps({"refused": {"code": "lost_lease", "message": "", "next": ""}}).encode(),
    ],
)
def test_an_answer_about_the_gates_that_is_none_holds_the_version(world: World, answer: bytes | Exception) -> None:
    evaluation = evaluated_with(world, answer)
    assert evaluation.error is not None
    assert (evaluation.verdict, evaluation.error["code"]) == ("error", "gate_error")
    assert evaluation.error["message"].startswith("ERROR: artifact_safety: the offline gates: the confined job")
    assert world.lifecycle(evaluation.version) == "Candidate"
    assert_nothing_is_left(world, evaluation)


def test_a_whole_answer_about_the_gates_is_taken(world: World) -> None:
    assert evaluated_with(world, json.dumps({"results": OFFLINE}).encode()).verdict == "passed"


HIDING = "FAIL: digest: x\nPASS digest \x1b[2K\u202e"
SHOWN = r"FAIL: digest: x\nPASS digest \x1b[2K\u202e"


def test_what_a_job_says_of_the_gates_hides_nothing(world: World) -> None:
    failed = {**GATE, "verdict": "failed", "message": HIDING}
    evaluation = evaluated_with(world, json.dumps({"results": [failed, OFFLINE[1]]}).encode())
    assert evaluation.error is not None and evaluation.report is not None
    assert evaluation.error["message"] == evaluation.report["gates"][0]["message"] == SHOWN
    told = [line.message for line in progress_of(world.records, evaluation.id)]
    assert SHOWN in told and HIDING not in told


def test_what_a_job_refuses_hides_nothing(world: World) -> None:
    world.jobs.answer = json.dumps({"refused": {"message": HIDING, "next": HIDING + "x" * 5000}}).encode()
    evaluation = asked(world)
    evaluate(world.services, evaluation.id, lambda name, action: action())
    error = world.records.get(Evaluation, evaluation.id).error
    assert error is not None
    assert (error["code"], error["message"]) == ("not_servable", SHOWN)
    assert error["next"].startswith(SHOWN) and len(error["next"]) == 2000


def test_rows_that_were_changed_on_the_disk_are_sent_to_nobody(world: World) -> None:
    evaluation = asked(world)

    def step(name: str, action: Callable[[], Any]) -> Any:
        done = action()
        if name == "packaging":
            (world.services.workdir / "work" / evaluation.id / "rows.json").write_text("{}")
        return done

    evaluate(world.services, evaluation.id, step)
    ended = world.records.get(Evaluation, evaluation.id)
    assert ended.error is not None
    assert "not those that were made of its evaluation set" in ended.error["message"]
    assert world.loads.plans == []
    assert_nothing_is_left(world, evaluation)


def test_load_is_sent_as_the_version_takes_it(world: World) -> None:
    world.evaluated(world.register())
    assert set(world.loads.rows[0]) == {"height", "age", "potted", "soil"}
    assert len(world.loads.rows) == EVALUATION_ROWS
