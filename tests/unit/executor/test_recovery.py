"""Work that no thread carries out any more: whatever ended it, nothing of it stays half-done, and no lease is held."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from socket import gethostname
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.audit import open_intents
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, LeaderLease, Lease, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Endpoint, Phase, Slot
from pipelines.errors import (
    DatabaseUnavailable,
    DeployFailed,
    LeaseHeld,
    LostLease,
    NotAllowed,
    RegistryUnavailable,
    TargetUnavailable,
)
from pipelines.evaluation.evaluate import evaluate
from pipelines.executor import recovery
from pipelines.executor.recovery import Recovery
from pipelines.executor.workflows import begin, register_workflows
from pipelines.governance.progress import progress_of
from pipelines.ports import Step
from pipelines.releases import late, leased, leases, unanswered
from pipelines.releases.leader import Succession
from pipelines.releases.machine import born_s
from pipelines.releases.mending import mending
from pipelines.releases.promote import release_promotion
from pipelines.releases.rollback import roll_back
from pipelines.releases.services import Services
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World

KEY = f"{MODEL}/production"
NOBODY = Succession(None, [])


class DeadError(Exception):
    """Stands for whatever ends a workflow's thread without an outcome."""


class Engine:
    """An engine of workflows that works on what the test says, and runs a workflow when it is told to."""

    def __init__(self) -> None:
        self.working: set[str] = set()
        self.abandoned: list[str] = []
        self._bodies: dict[str, Callable[[str, Step], None]] = {}

    def register(self, name: str, body: Callable[[str, Step], None]) -> None:
        self._bodies[name] = body

    def launch(self) -> None:
        """Nothing was cut off."""

    def start(self, name: str, work_id: str) -> None:
        self._bodies[name](work_id, lambda name, action: action())

    def works_on(self, work_id: str) -> bool:
        return work_id in self.working

    def abandon(self, work_id: str) -> None:
        self.abandoned.append(work_id)

    def close(self) -> None:
        """Nothing is open."""


def dying(before: str) -> Callable[[str, Callable[[], Any]], Any]:
    """Return the steps of a workflow whose thread ends just before a step."""

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith(before):
            raise DeadError
        return action()

    return step


def cut_off(world: World, before: str) -> Promotion:
    """Promote a version over version 1, and lose the thread just before a step."""
    world.promoted(world.register())
    promotion = world.approved(world.register())
    with world.records.write() as transaction:
        transaction.change(promotion, state=RunState.RUNNING)
    with pytest.raises(DeadError):
        release_promotion(world.services, promotion.id, dying(before))
    return promotion


def look(world: World, engine: Engine | None = None, succession: Succession = NOBODY) -> Engine:
    """Let the executor look once, and wait for what it begins."""
    engine = engine or Engine()
    recovered = Recovery(world.services, engine, succession)
    recovered.look()
    recovered.wait()
    return engine


def lease(world: World) -> Lease:
    return world.records.get(Lease, KEY)


def all_is_back(world: World) -> None:
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert lease(world).holder is None
    assert open_intents(world.records.audit_trail()) == []
    assert not [r for r in world.records.find(ReleaseRecord) if r.state.half_done]


@pytest.mark.parametrize("before", ["K1", "K4", "K5", "K6", "K8", "K9"])
def test_a_release_that_lost_its_thread_is_undone_by_the_next_look(world: World, before: str) -> None:
    promotion = cut_off(world, before)
    engine = look(world)
    ended = world.records.get(Promotion, promotion.id)
    begun = before not in ("K1", "K4")
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "deploy_failed" if begun else "undecided")
    assert engine.abandoned == [promotion.id]
    all_is_back(world)
    assert world.promoted(world.register()).state is RunState.DONE


def test_work_that_a_thread_carries_out_is_left_alone(world: World) -> None:
    promotion = cut_off(world, "K9")
    engine = Engine()
    engine.working.add(promotion.id)
    look(world, engine)
    assert (world.records.get(Promotion, promotion.id).state, engine.abandoned) == (RunState.RUNNING, [])
    assert lease(world).holder == promotion.id


def test_work_that_took_the_lease_and_was_never_written_down_as_running_is_ended_too(world: World) -> None:
    promotion = cut_off(world, "K9")
    with world.records.write() as transaction:
        transaction.change(promotion, state=RunState.APPROVED)
    look(world)
    assert world.records.get(Promotion, promotion.id).state is RunState.STOPPED
    all_is_back(world)


def test_a_release_that_stands_half_done_although_its_work_has_ended_is_undone_too(world: World) -> None:
    promotion = cut_off(world, "K9")
    with world.records.write() as transaction:
        # As an earlier Slipway left it.
        transaction.change(promotion, state=RunState.STOPPED)
        transaction.change(lease(world), holder=None)
    look(world)
    all_is_back(world)
    (release,) = world.records.find(ReleaseRecord, change_id=promotion.id)
    assert release.state is ReleaseState.FAILED


def test_an_evaluation_that_lost_its_thread_leaves_no_trial_and_no_lease(world: World) -> None:
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    with pytest.raises(DeadError):
        evaluate(world.services, asked.id, dying("trial stopped"))
    trial = world.target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL)
    assert trial.phase is Phase.SETTLED
    look(world)
    assert world.target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).phase is Phase.EMPTY
    assert world.records.get(Evaluation, asked.id).state is RunState.STOPPED
    assert world.records.find(Lease, holder=asked.id) == []


def test_a_promotion_that_waits_for_an_evaluation_ends_with_it(world: World) -> None:
    promotion = commands.request_promotion(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    with world.records.write() as transaction:
        transaction.change(world.records.get(Evaluation, promotion.evaluation_id), state=RunState.RUNNING)
    look(world)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "undecided")


def test_what_can_not_be_undone_is_said_and_undone_by_a_later_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    promotion = cut_off(world, "K9")
    world.registry.down = True
    look(world)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, "not undone" in (ended.error or {})["message"]) == (RunState.STOPPED, True)
    assert world.records.find(ReleaseRecord, change_id=promotion.id)[0].state is ReleaseState.UNDOING
    world.registry.down = False
    look(world)
    all_is_back(world)
    assert world.records.find(ReleaseRecord, change_id=promotion.id)[0].state is ReleaseState.FAILED


def _looks(world: World, monkeypatch: pytest.MonkeyPatch, *, times: int = 3) -> list[tuple[str, str]]:
    """Look so often, and return what is audited from the second look on."""
    monkeypatch.setattr(recovery, "AGAIN_S", 0.0)
    recovered = Recovery(world.services, Engine(), NOBODY)
    known = 0
    for number in range(times + 2):
        recovered.look()
        recovered.wait()
        # The first ends the work, the second tries alone what that has left.
        if number == 1:
            known = len(list(world.records.audit_trail()))
    return [(entry.action, entry.phase) for entry in list(world.records.audit_trail())[known:]]


def _forbidden(*arguments: Any, **more: Any) -> None:
    raise NotAllowed("MLflow forbids it")


def _spoiled(*arguments: Any, **more: Any) -> None:
    raise DeployFailed("the bundle is not in the store")


def test_an_undoing_that_fails_again_and_again_is_not_audited_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(world, "K9")
    with monkeypatch.context() as away:
        away.setattr(world.registry, "move_alias", _forbidden)
        away.setattr(world.target, "restore", _spoiled)
        assert _looks(world, away) == []
        # Another executor knows that as well, and after a day it is told again.
        assert _looks(world, away) == []
        tomorrow = datetime.fromisoformat(now()) + timedelta(seconds=leases.TOLD_S + 60)
        world.services = replace(world.services, now=lambda: tomorrow.isoformat(timespec="milliseconds"))
        look(world)
        assert list(world.records.audit_trail())[-1].action == "lease.take"
    look(world)
    all_is_back(world)


def test_a_mending_that_fails_again_and_again_is_not_audited_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    world.target.forget()
    monkeypatch.setattr(world.target, "restore", _spoiled)
    assert _looks(world, monkeypatch) == []


def test_an_alias_that_no_version_can_have_is_removed_once_however_often_the_target_resists(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(world, "K9")
    world.registry.delete(MODEL, "1")
    monkeypatch.setattr(world.target, "restore", _spoiled)
    assert _looks(world, monkeypatch) == []
    assert "production" not in world.registry.aliases(MODEL)


def test_a_rollback_that_was_asked_for_while_a_release_stood_half_done_stops_at_the_good_one(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    promotion = world.approved(world.register())
    with world.records.write() as transaction:
        transaction.change(promotion, state=RunState.RUNNING)
    with pytest.raises(DeadError):
        release_promotion(world.services, promotion.id, dying("K9"))
    asked = commands.request_rollback(world.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
    look(world)
    roll_back(world.services, asked.id, world.step)
    assert "version 3 was half-done" in (world.records.get(Rollback, asked.id).error or {})["message"]
    assert world.serving() == "2"
    assert world.rolled_back().version == "1"


def test_whoever_takes_the_lease_first_undoes_what_is_left(world: World) -> None:
    promotion = cut_off(world, "K9")
    world.registry.down = True
    look(world)
    world.registry.down = False
    third = world.promoted(world.register())
    assert third.state is RunState.DONE, third.error
    assert [r.state for r in world.records.find(ReleaseRecord, change_id=promotion.id)] == [ReleaseState.FAILED]
    assert open_intents(world.records.audit_trail()) == []


def test_a_lease_whose_holder_has_ended_is_given_back(world: World) -> None:
    promotion = world.promoted(world.register())
    with world.records.write() as transaction:
        transaction.change(lease(world), holder=promotion.id)
    look(world)
    assert lease(world).holder is None


def test_the_alias_that_a_frozen_former_executor_moved_too_late_is_put_back(world: World) -> None:
    promotion = cut_off(world, "K8")
    successor = Services(**{**world.services.__dict__, "executor": "two"})
    with world.records.write() as transaction:
        leader = LeaderLease("executor", "two", 1, 0.0, now())
        taken = leases.take_over(transaction, leader, now())
    world.services = successor
    look(world)
    all_is_back(world)
    # The zombie had confirmed its lease, and only now its write arrives.
    world.registry.move_alias(MODEL, "production", "2")
    look(world)
    assert world.registry.aliases(MODEL)["production"] == "2", "by hand is not put back"
    look(world, None, Succession(None, taken))
    all_is_back(world)
    zombie = Services(**{**world.services.__dict__, "executor": "one"})
    with pytest.raises(LostLease, match=r"lost lease, epoch \d+ < \d+"):
        leases.confirm(zombie, MODEL, PRODUCTION, promotion.id)


@pytest.mark.parametrize("then", ["a look", "a release"])
def test_what_an_attempt_to_undo_a_first_release_had_begun_is_ended_by_whoever_comes_next(
    world: World, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    first, second = (
        commands.request_evaluation(
            world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
        )
        for _ in range(2)
    )
    with pytest.raises(DeadError):
        evaluate(world.services, first.id, dying("K9"))
    move = world.registry.move_alias

    def kept(model: str, alias: str, version: str | None) -> None:
        if version is None:
            _forbidden()
        move(model, alias, version)

    with monkeypatch.context() as resisting:
        resisting.setattr(world.registry, "move_alias", kept)
        look(world)
        assert [entry.action for entry in open_intents(world.records.audit_trail())] == ["alias.move"]
        if then == "a release":
            evaluate(world.services, second.id, world.step)
    look(world)
    assert open_intents(world.records.audit_trail()) == []
    assert world.registry.aliases(MODEL).get("staging") == ("2" if then == "a release" else None)


def moved_too_late(world: World) -> list[Lease]:
    """Have version 2 undone by a successor, then let the alias that its executor moved too late say version 2."""
    cut_off(world, "K8")
    world.services = Services(**{**world.services.__dict__, "executor": "two"})
    with world.records.write() as transaction:
        taken = leases.take_over(transaction, LeaderLease("executor", "two", 1, 0.0, now()), now())
    look(world)
    world.registry.move_alias(MODEL, "production", "2")
    return taken


def test_an_alias_that_a_former_executor_removed_too_late_is_put_back(world: World) -> None:
    taken = moved_too_late(world)
    # As it does to undo the first release of all.
    world.registry.move_alias(MODEL, "production", None)
    look(world)
    assert "production" not in world.registry.aliases(MODEL), "by hand is not put back"
    look(world, None, Succession(None, taken))
    all_is_back(world)


@pytest.mark.parametrize(
    ("held_for", "put_right"), [("undoing", True), ("mending", True), ("refused work", True), ("maintenance", False)]
)
def test_an_alias_that_a_former_executor_moved_too_late_is_put_back_whatever_it_held_the_lease_for(
    world: World, held_for: str, put_right: bool
) -> None:
    if held_for == "undoing":
        cut_off(world, "K9")
        (holder,) = [r.id for r in world.records.find(ReleaseRecord, state=ReleaseState.STARTING)]
        with world.records.write() as transaction:
            transaction.change(lease(world), holder=None)
    else:
        world.promoted(world.register())
        holder = mending(Endpoint(MODEL, PRODUCTION))
    if held_for == "refused work":
        holder = world.approved(world.register()).id
    elif held_for == "maintenance":
        holder = commands.request_maintenance(world.records, person="operator", model=MODEL, verb="up", now=now()).id
    leases.acquire(world.services, MODEL, PRODUCTION, holder)
    timing = replace(world.services.timing, registry_s=60.0)
    world.services = replace(world.services, executor="two", timing=timing)
    with world.records.write() as transaction:
        taken = leases.take_over(transaction, LeaderLease("executor", "two", 1, 0.0, now()), now())
    look(world, None, Succession(None, taken))
    leases.give_back(world.services, holder)
    if held_for == "maintenance":
        commands.end_maintenance(world.records, person="operator", id=holder, now=now())
    released = world.promoted(world.register())
    # As the one before had brought it back, or was about to.
    world.registry.move_alias(MODEL, "production", "1")
    look(world, None, Succession(None, taken))
    assert released.state is RunState.DONE
    assert world.registry.aliases(MODEL)["production"] == (released.version if put_right else "1")


@pytest.mark.parametrize(("there", "said"), [(True, "1"), (False, "2")])
def test_an_alias_is_put_back_only_while_the_former_executor_may_still_have_moved_it(
    world: World, there: bool, said: str
) -> None:
    taken = moved_too_late(world)
    world.services = replace(world.services, timing=replace(world.services.timing, registry_s=0.001))
    process = psutil.Process()
    born = born_s(process) if there else born_s(process) - 60
    look(world, None, Succession(LeaderLease("executor", "one", process.pid, born, now(), gethostname()), taken))
    assert world.registry.aliases(MODEL)["production"] == said


@pytest.mark.parametrize(("lately", "said"), [(True, "1"), (False, "2")])
def test_an_alias_is_put_back_too_if_the_executor_that_took_over_was_itself_replaced(
    world: World, lately: bool, said: str
) -> None:
    moved_too_late(world)
    (failed,) = world.records.find(ReleaseRecord, state=ReleaseState.FAILED)
    world.services.note(failed.change_id, late.RECOVERED, "interrupted at K8, recovered")
    if not lately:
        long_ago = datetime.fromisoformat(now()) - timedelta(minutes=5)
        with world.records.write() as transaction:
            transaction.change(failed, ended_at=long_ago.isoformat(timespec="milliseconds"))
    (former,) = world.records.find(LeaderLease)
    world.services = Services(**{**world.services.__dict__, "executor": "three"})
    with world.records.write() as transaction:
        taken = leases.take_over(transaction, LeaderLease("executor", "three", 1, 0.0, now()), now())
    assert taken == []
    look(world, None, Succession(former, taken))
    assert world.registry.aliases(MODEL)["production"] == said


def test_a_registry_that_forbids_or_hangs_stops_no_round_and_no_other_work(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = moved_too_late(world)
    asked: list[threading.Thread] = []

    def forbidden(model: str) -> dict[str, str]:
        asked.append(threading.current_thread())
        raise NotAllowed("MLflow forbids model plant-model")

    monkeypatch.setattr(world.registry, "aliases", forbidden)
    look(world, None, Succession(None, taken))
    assert asked
    assert threading.main_thread() not in asked
    assert "MLflow forbids" in caplog.text
    monkeypatch.undo()
    look(world, None, Succession(None, taken))
    all_is_back(world)


def test_a_target_that_lost_its_record_later_is_filled_by_a_look_and_never_in_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "AGAIN_S", 0.0)
    world.promoted(world.register())
    asked: list[threading.Thread] = []
    recovered = Recovery(world.services, Engine(), NOBODY)
    recovered.look()
    recovered.wait()
    world.target.forget()
    restore = world.target.restore

    def noted(*arguments: Any, **more: Any) -> None:
        asked.append(threading.current_thread())
        restore(*arguments, **more)

    monkeypatch.setattr(world.target, "restore", noted)
    recovered.look()
    recovered.wait()
    assert len(asked) == 2
    assert threading.main_thread() not in asked
    world.target.observe(Endpoint(MODEL, PRODUCTION), Slot.LIVE)
    assert world.serving() == "1"


def test_a_database_that_is_away_at_the_border_of_a_step_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    promotion = world.approved(world.register())
    prepare, failures = world.target.prepare, [1, 2, 3]

    def away(endpoint: Endpoint, digest: str) -> None:
        if failures:
            failures.pop()
            raise DatabaseUnavailable("the database can't be read")
        prepare(endpoint, digest)

    monkeypatch.setattr(world.target, "prepare", away)
    starts = register_workflows(world.services, Engine())
    begin(world.services, promotion, starts[Promotion])
    assert failures == []
    assert world.records.get(Promotion, promotion.id).state is RunState.DONE
    assert world.serving() == "2"


def test_a_bug_in_an_undoing_is_logged_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "AGAIN_S", 0.0)
    promotion = cut_off(world, "K9")
    restore, bugs = world.target.restore, [ValueError("a bug")]

    def buggy(*arguments: Any, **more: Any) -> None:
        if bugs:
            raise bugs.pop()
        restore(*arguments, **more)

    monkeypatch.setattr(world.target, "restore", buggy)
    recovered = Recovery(world.services, Engine(), NOBODY)
    for _ in range(2):
        recovered.look()
        recovered.wait()
    assert "a bug while" in caplog.text
    assert world.records.get(Promotion, promotion.id).state is RunState.STOPPED
    all_is_back(world)


def test_a_registry_that_is_down_keeps_no_other_work_from_being_looked_at(world: World) -> None:
    promotion = cut_off(world, "K9")
    taken = lease(world)
    look(world)
    world.registry.down = True
    with pytest.raises(RegistryUnavailable):
        world.registry.aliases(MODEL)
    look(world, None, Succession(None, [taken]))
    assert world.records.get(Promotion, promotion.id).state is RunState.STOPPED


def test_a_registry_that_is_down_keeps_no_slot_from_being_mended(world: World) -> None:
    world.promoted(world.register())
    # A move of the alias that was not answered: as long as the registry is away, it may still arrive.
    world.services.unanswered.add(Endpoint(MODEL, PRODUCTION), "2")
    world.registry.down = True
    world.target.forget()
    look(world)
    world.target.observe(Endpoint(MODEL, PRODUCTION), Slot.LIVE)
    assert world.serving() == "1"


class Clock:
    """A clock that a test sets on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_between_two_attempts_to_undo_the_lease_is_free_however_long_they_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, attempts = Clock(), list[str]()
    monkeypatch.setattr(recovery, "time", clock)

    def away(*arguments: Any, **more: Any) -> None:
        attempts.append("attempt")
        clock.now_s += 10 * recovery.AGAIN_S
        raise TargetUnavailable("it does not come up")

    cut_off(world, "K9")
    monkeypatch.setattr(world.target, "restore", away)
    recovered = Recovery(world.services, Engine(), NOBODY)
    for _ in range(2):
        # The work is ended, then its release is undone, as often as it takes.
        recovered.look()
        recovered.wait()
    assert len(attempts) == 2
    recovered.look()
    recovered.wait()
    assert (len(attempts), lease(world).holder) == (2, None)
    clock.now_s += recovery.AGAIN_S
    recovered.look()
    recovered.wait()
    assert len(attempts) == 3


@pytest.mark.parametrize("passing", ["undoing", "mending", "ending", "none"])
def test_who_asks_for_the_way_out_waits_for_who_puts_something_right_under_the_lease_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, passing: str
) -> None:
    world.promoted(world.register())
    promotion, engine = world.promoted(world.register()), Engine()
    holder = {"undoing": world.records.find(ReleaseRecord)[-1].id, "mending": mending(Endpoint(MODEL, PRODUCTION))}.get(
        passing, promotion.id
    )
    if passing == "none":
        engine.working.add(promotion.id)
    leases.acquire(world.services, MODEL, PRODUCTION, holder)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            leases.give_back(world.services, holder)

    monkeypatch.setattr(leased, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    asked = commands.request_rollback(world.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
    begin(world.services, asked, register_workflows(world.services, engine)[Rollback])
    rollback = world.records.get(Rollback, asked.id)
    if passing == "none":
        assert ((rollback.error or {})["code"], waited) == ("lease_held", [])
        return
    assert (rollback.state, rollback.error, len(waited)) == (RunState.DONE, None, 3)
    assert world.serving() == "1"
    said = [line.message for line in progress_of(world.records, asked.id) if line.message.startswith("waiting: ")]
    assert [f"changed by {holder} since" in message for message in said] == [True]


def test_a_lease_that_was_held_a_moment_ago_and_is_free_by_now_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    acquire = leases.acquire

    def held_just_now(*arguments: Any) -> int:
        monkeypatch.setattr(leases, "acquire", acquire)
        raise LeaseHeld("production is being changed")

    monkeypatch.setattr(leases, "acquire", held_just_now)
    assert world.rolled_back().error is None


def test_who_undoes_without_an_end_is_not_waited_for_without_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    leases.acquire(world.services, MODEL, PRODUCTION, mending(Endpoint(MODEL, PRODUCTION)))
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.now_s += 1.0

    monkeypatch.setattr(leased, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=sleep))
    assert (world.rolled_back().error or {})["code"] == "lease_held"


def test_a_write_of_our_own_that_arrives_after_its_release_was_undone_is_put_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in (late, unanswered):
        monkeypatch.setattr(module, "time", clock)
    world.promoted(world.register())
    promotion = world.approved(world.register())
    move = world.registry.move_alias

    def hangs(model: str, alias: str, version: str | None) -> None:
        raise RegistryUnavailable("no answer within 10 s")

    monkeypatch.setattr(world.registry, "move_alias", hangs)
    release_promotion(world.services, promotion.id, world.step)
    monkeypatch.undo()
    for module in (late, unanswered):
        monkeypatch.setattr(module, "time", clock)
    all_is_back(world)
    # It has not arrived yet, and is not forgotten for that.
    look(world)
    move(MODEL, "production", "2")
    look(world)
    all_is_back(world)
    # The look after its time takes it for lost: from then on it was somebody.
    clock.now_s += world.services.timing.registry_s
    move(MODEL, "production", "2")
    look(world)
    all_is_back(world)
    look(world)
    move(MODEL, "production", "2")
    look(world)
    assert world.registry.aliases(MODEL)["production"] == "2"


@pytest.mark.parametrize("kind", [Evaluation, Promotion, Rollback])
def test_a_read_between_two_steps_that_fails_once_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: type[Evaluation | Promotion | Rollback]
) -> None:
    world.promoted(world.register())
    within, blips = list[str](), list[str]()
    get = world.records.get

    def blipping(kind: type[Any], id: str) -> Any:
        # Each read between two steps fails once.
        if not within and (not blips or blips[-1] != id):
            blips.append(id)
            raise DatabaseUnavailable("the database was restarted")
        return get(kind, id)

    def step(name: str, action: Callable[[], Any]) -> Any:
        within.append(name)
        try:
            return action()
        finally:
            within.pop()

    work: Evaluation | Promotion | Rollback
    if kind is Evaluation:
        version = world.register()
        work = commands.request_evaluation(
            world.records, person="alice", model=MODEL, version=version, override=None, now=now()
        )
    else:
        work = world.approved(world.register())
        if kind is Rollback:
            release_promotion(world.services, work.id, world.step)
            work = commands.request_rollback(
                world.records, person="alice", model=MODEL, environment=PRODUCTION, now=now()
            )
    body: Callable[..., None] = {Evaluation: evaluate, Promotion: release_promotion, Rollback: roll_back}[kind]
    monkeypatch.setattr(world.records, "get", blipping)
    body(world.services, work.id, step)
    monkeypatch.undo()
    ended = world.records.get(kind, work.id)
    assert (ended.state, ended.error) == (RunState.DONE, None)
    assert blips
