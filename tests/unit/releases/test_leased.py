"""Work that is refused on its way leaves nothing half-done, or what is left is recorded for whoever comes next."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Promotion, ReleaseRecord
from pipelines.domain.release import Endpoint, Phase, Slot
from pipelines.errors import DatabaseUnavailable, TargetUnavailable
from pipelines.evaluation.evaluate import evaluate
from pipelines.releases import leases
from pipelines.releases.promote import release_promotion
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World

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
