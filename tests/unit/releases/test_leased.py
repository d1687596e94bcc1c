"""Work that is refused on its way leaves nothing half-done, or what is left is recorded for whoever comes next."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Lease, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Endpoint, Phase, Slot, SlotState
from pipelines.errors import DatabaseUnavailable, LostLease, TargetUnavailable
from pipelines.evaluation.evaluate import evaluate
from pipelines.ports import Step
from pipelines.releases import leases
from pipelines.releases.leader import give_up_leader_lease, take_leader_lease
from pipelines.releases.promote import release_promotion
from pipelines.releases.rollback import roll_back
from pipelines.releases.services import Services
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World


class DeadError(Exception):
    """Stands for the end of the executor's process."""


TRIAL = (Endpoint(MODEL, STAGING), Slot.TRIAL)


def away_at(*steps: str) -> Callable[[str, Callable[[], Any]], Any]:
    """Return the steps of a workflow whose database is away, for longer than is waited, at some of them."""

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith(steps):
            raise DatabaseUnavailable("the database can't be read")
        return action()

    return step


def promoted_with(world: World, step: Callable[[str, Callable[[], Any]], Any]) -> Promotion:
    """Promote a version over version 1 in steps of the test's own."""
    world.promoted(world.register())
    promotion = world.approved(world.register())
    release_promotion(world.services, promotion.id, step)
    return world.records.get(Promotion, promotion.id)


def the_release(world: World, promotion: Promotion) -> ReleaseRecord:
    (release,) = world.records.find(ReleaseRecord, change_id=promotion.id)
    return release


def test_a_release_whose_undo_failed_too_stays_recorded_as_half_done_and_the_next_work_undoes_it(world: World) -> None:
    promotion = promoted_with(world, away_at("K9", "undo"))
    assert (promotion.state, (promotion.error or {})["code"]) == (RunState.STOPPED, "deploy_failed")
    assert "not undone: the database can't be read" in (promotion.error or {})["message"]
    assert the_release(world, promotion).state is ReleaseState.UNDOING
    assert world.registry.aliases(MODEL)["production"] == "2"
    assert world.promoted(world.register()).state is RunState.DONE
    assert the_release(world, promotion).state is ReleaseState.FAILED
    assert world.serving() == "3"


def test_a_bug_in_one_part_of_an_undo_is_told_and_keeps_no_other_part_from_being_undone(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*arguments: Any, **more: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(world.target, "restore", buggy)
    promotion = promoted_with(world, away_at("K9"))
    assert "not undone: ValueError: a bug" in (promotion.error or {})["message"]
    assert "Traceback" in caplog.text
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert the_release(world, promotion).state is ReleaseState.UNDOING


def begun_trial(world: World) -> Evaluation:
    return commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )


def evaluated_without_target(world: World, monkeypatch: pytest.MonkeyPatch, *away_during: str) -> Evaluation:
    """Evaluate a version while the target is away during some steps."""
    asked, stop = begun_trial(world), world.target.stop
    during = [""]

    def stop_unless_away(*arguments: Any, **more: Any) -> None:
        if during[0] in away_during:
            raise TargetUnavailable("the supervisor of staging does not answer")
        stop(*arguments, **more)

    def step(name: str, action: Callable[[], Any]) -> Any:
        during[0] = name
        return action()

    monkeypatch.setattr(world.target, "stop", stop_unless_away)
    evaluate(world.services, asked.id, step)
    during[0] = ""
    return world.records.get(Evaluation, asked.id)


def test_a_trial_that_could_not_be_stopped_is_stopped_before_the_lease_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = evaluated_without_target(world, monkeypatch, "trial stopped")
    assert (evaluation.state, (evaluation.error or {})["code"]) == (RunState.STOPPED, "target_unavailable")
    assert world.target.observe(*TRIAL).phase is Phase.EMPTY


def test_a_trial_that_stays_is_stopped_by_the_next_work_of_that_endpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated_without_target(world, monkeypatch, "trial stopped", "stopped")
    assert world.target.observe(*TRIAL).phase is Phase.SETTLED
    seen: list[Phase] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name.startswith("K0"):
            seen.append(world.target.observe(*TRIAL).phase)
        return answer

    asked = begun_trial(world)
    evaluate(world.services, asked.id, step)
    assert seen == [Phase.EMPTY]
    assert world.records.get(Evaluation, asked.id).state is RunState.DONE


def test_work_that_never_had_the_lease_empties_no_slot_of_its_holder(world: World) -> None:
    first, second = begun_trial(world), begun_trial(world)
    refused: list[Evaluation] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "first request timed" and not refused:
            evaluate(world.services, second.id, world.step)
            refused.append(world.records.get(Evaluation, second.id))
        return action()

    evaluate(world.services, first.id, step)
    assert [(each.error or {})["code"] for each in refused] == ["lease_held"]
    assert world.records.get(Evaluation, first.id).state is RunState.DONE


def test_an_operator_who_holds_the_lease_is_not_waited_for(world: World) -> None:
    promotion = world.approved(world.register())
    leases.acquire(world.services, MODEL, PRODUCTION, "c-1")
    release_promotion(replace(world.services, works_on=lambda id: False), promotion.id, world.step)
    stopped = world.records.get(Promotion, promotion.id)
    assert (stopped.state, (stopped.error or {})["code"]) == (RunState.STOPPED, "lease_held")
    told = [event.detail["message"] for event in world.records.events(kinds=[EventKind.PROGRESS_MADE])]
    assert not [message for message in told if "waiting" in message]


class Journal:
    """A journal of steps, which a backup may have taken a moment before the records."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        if name not in self._answers:
            self._answers[name] = action()
        return self._answers[name]

    def forget_from(self, step: str) -> None:
        names = list(self._answers)
        first = next(place for place, name in enumerate(names) if name.startswith(step))
        self._answers = {name: self._answers[name] for name in names[:first]}


@pytest.mark.parametrize(
    ("kind", "step"),
    [(Promotion, "K1"), (Promotion, "K4"), (Promotion, "K8"), (Rollback, "K5"), (Evaluation, "trial started")],
)
def test_work_that_has_ended_is_not_gone_on_with_by_an_executor_whose_journal_is_older_than_its_records(
    world: World, kind: type[Evaluation | Promotion | Rollback], step: str
) -> None:
    world.promoted(world.register())
    journal, version = Journal(), world.register()
    work: Evaluation | Promotion | Rollback
    carry_out: Callable[[Services, str, Step], None]
    if kind is Evaluation:
        work = commands.request_evaluation(
            world.records, person="alice", model=MODEL, version=version, override=None, now=now()
        )
        carry_out = evaluate
    elif kind is Promotion:
        work, carry_out = world.approved(version), release_promotion
    else:
        world.promoted(version)
        work = commands.request_rollback(world.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
        carry_out = roll_back
    carry_out(world.services, work.id, journal.step)
    journal.forget_from(step)
    give_up_leader_lease(world.services)
    successor = replace(world.services, executor="two")
    take_leader_lease(successor)
    releases, served = world.records.find(ReleaseRecord), world.serving()
    carry_out(successor, work.id, journal.step)
    assert world.records.get(kind, work.id).state is RunState.DONE
    assert (world.records.find(ReleaseRecord), world.serving()) == (releases, served)
    assert not any(lease.holder for lease in world.records.find(Lease))


@pytest.mark.parametrize(("kind", "before"), [(Evaluation, "report written"), (Promotion, "K4")])
def test_an_executor_that_wakes_in_a_step_writes_over_nothing_that_its_successor_has_recorded(
    world: World, kind: type[Evaluation | Promotion], before: str
) -> None:
    work: Evaluation | Promotion
    carry_out: Callable[[Services, str, Step], None]
    version = world.register()
    if kind is Evaluation:
        work = commands.request_evaluation(
            world.records, person="alice", model=MODEL, version=version, override=None, now=now()
        )
        carry_out = evaluate
    else:
        work, carry_out = world.approved(version), release_promotion
    recorded: list[Any] = []

    def frozen(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith(before):
            give_up_leader_lease(world.services)
            successor = replace(world.services, executor="two")
            take_leader_lease(successor)
            carry_out(successor, work.id, world.step)
            recorded.extend([world.records.get(kind, work.id), world.records.find(ReleaseRecord)])
        return action()

    with pytest.raises(LostLease):
        carry_out(world.services, work.id, frozen)
    assert recorded[0].state is RunState.DONE
    assert [world.records.get(kind, work.id), world.records.find(ReleaseRecord)] == recorded


@pytest.mark.parametrize("lost", ["the target's record", "the replicas for a while", "nothing"])
def test_a_release_that_had_settled_when_its_machine_was_restarted_is_waited_for_and_not_undone(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    world.promoted(world.register())
    promotion, journal = world.approved(world.register()), Journal()

    def dying(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith("K7"):
            raise DeadError
        return journal.step(name, action)

    with pytest.raises(DeadError):
        release_promotion(world.services, promotion.id, dying)
    give_up_leader_lease(world.services)
    world.services = replace(world.services, executor="two")
    take_leader_lease(world.services)
    observe, looks = world.target.observe, itertools.count()

    def starting(endpoint: Endpoint, slot: Slot) -> SlotState:
        state = observe(endpoint, slot)
        if slot is not Slot.LIVE or next(looks) > 5:
            return state
        return replace(state, replicas=tuple(replace(replica, ready=False) for replica in state.replicas))

    if lost == "the target's record":
        world.target.forget()
    elif lost == "the replicas for a while":
        monkeypatch.setattr(world.target, "observe", starting)
    release_promotion(world.services, promotion.id, journal.step)
    assert world.records.get(Promotion, promotion.id).state is RunState.DONE
    assert world.serving() == "2"
