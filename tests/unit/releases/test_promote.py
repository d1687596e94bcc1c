"""Releases into production over fakes of the ports and a real database: every step, and what undoes it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines.domain.promotion import Override, ReleaseState, RunState
from pipelines.domain.records import Approval, Evaluation, Lease, Promotion, ReleaseRecord
from pipelines.domain.release import Endpoint, Release, Slot, SlotState
from pipelines.errors import DatabaseUnavailable, LostLease, RegistryUnavailable
from pipelines.releases.promote import release_promotion
from pipelines.releases.services import Services, Timing
from tests.support.world.world import MODEL, PRODUCTION, World


def test_promote_moves_the_alias_after_the_replicas_and_archives_the_champion(world: World) -> None:
    first = world.promoted(world.register())
    assert (first.state, first.archived) == (RunState.DONE, None)
    second = world.promoted(world.register())
    assert (second.state, second.archived) == (RunState.DONE, "1")
    assert world.serving() == "2"
    assert world.registry.aliases(MODEL)["production"] == "2"
    assert (world.lifecycle("1"), world.lifecycle("2")) == ("Archived", "Production")
    report = world.records.get(Evaluation, second.evaluation_id).report or {}
    assert report["champion"]["version"] == "1"
    assert {gate["name"]: gate["verdict"] for gate in report["gates"]}["comparison"] == "passed"


def test_promote_keeps_champion_when_candidate_never_becomes_ready(world: World) -> None:
    champion = world.promoted(world.register())
    second = world.approved(world.register())
    digest = world.records.get(Evaluation, second.evaluation_id).bundle_digest or ""
    world.target.hanging.add(digest)
    release_promotion(world.services, second.id, world.step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert stopped.error["code"] == "deploy_failed"
    assert world.serving() == champion.version
    assert world.registry.aliases(MODEL)["production"] == "1"
    failed = world.records.find(ReleaseRecord, environment=PRODUCTION)[-1]
    assert failed.state is ReleaseState.FAILED
    assert world.records.find(Lease, id=f"{MODEL}/production")[0].holder is None


def test_a_registry_that_stays_away_after_the_roll_brings_the_champion_back(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K8 alias moved":
            world.registry.down = True
        answered = None
        try:
            answered = action()
        finally:
            if name == "K8 alias moved":
                world.registry.down = False
        return answered

    release_promotion(world.services, second.id, step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert (stopped.state, stopped.error["code"]) == (RunState.STOPPED, "deploy_failed")
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"


def test_a_registry_that_is_away_before_anything_moved_refuses_without_a_change(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    world.registry.down = True
    release_promotion(world.services, second.id, world.step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert stopped.error["code"] == RegistryUnavailable.code
    assert world.serving() == "1"
    assert len(world.records.find(ReleaseRecord, environment=PRODUCTION)) == 1


@pytest.mark.parametrize("cut", [f"K{number}" for number in range(11)])
def test_a_release_cut_off_before_any_step_and_begun_again_ends_as_one_release(world: World, cut: str) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    journal: dict[str, Any] = {}

    class CutError(BaseException):
        """Stands for the death of the process after a step's effect and before its record."""

    def dying(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name.startswith(f"{cut} "):
            raise CutError
        journal[name] = answer
        return answer

    def resumed(name: str, action: Callable[[], Any]) -> Any:
        return journal[name] if name in journal else action()

    with pytest.raises(CutError):
        release_promotion(world.services, second.id, dying)
    release_promotion(world.services, second.id, resumed)
    assert world.records.get(Promotion, second.id).state is RunState.DONE
    assert world.serving() == "2"
    assert world.registry.aliases(MODEL)["production"] == "2"
    history = world.records.find(ReleaseRecord, environment=PRODUCTION)
    assert [(r.version, r.state) for r in history] == [("1", "superseded"), ("2", "serving")]
    assert world.records.find(Lease, id=f"{MODEL}/production")[0].holder is None


def test_an_executor_that_was_taken_over_can_not_move_the_alias(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    other = Services(**{**world.services.__dict__, "executor": "two"})

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K8 alias moved":
            with world.records.write() as transaction:
                lease = transaction.find(Lease, id=f"{MODEL}/production")[0]
                transaction.change(lease, epoch=lease.epoch + 1, executor=other.executor)
        return action()

    with pytest.raises(LostLease, match=r"lost lease, epoch \d+ < \d+"):
        release_promotion(world.services, second.id, step)
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert world.records.get(Promotion, second.id).state is not RunState.DONE


def test_a_second_promotion_is_refused_with_the_holder_and_since_when(world: World) -> None:
    first, second = world.approved(world.register()), world.approved(world.register())
    refused: list[Promotion] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K5 target updated" and not refused:
            refused.append(second)
            release_promotion(world.services, second.id, world.step)
        return action()

    release_promotion(world.services, first.id, step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "lease_held"
    assert f"by {first.id} since" in error["message"]
    assert world.serving() == first.version


def test_an_approval_is_void_when_the_champion_changed(world: World) -> None:
    first, second = world.approved(world.register()), world.approved(world.register())
    release_promotion(world.services, first.id, world.step)
    release_promotion(world.services, second.id, world.step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "approval_void"
    assert world.serving() == first.version


def test_an_approval_is_void_when_the_policy_changed(world: World) -> None:
    promotion = world.approved(world.register())
    world.apply_policy(minimum=0.6)
    release_promotion(world.services, promotion.id, world.step)
    error = world.records.get(Promotion, promotion.id).error
    assert error is not None
    assert (error["code"], "policy digest was" in error["message"]) == ("approval_void", True)
    assert world.serving() is None


def test_the_requesters_own_approval_does_not_count(world: World) -> None:
    promotion = world.approved(world.register())
    with world.records.write() as transaction:
        (given,) = transaction.find(Approval, promotion_id=promotion.id)
        transaction.change(given, person=promotion.requested_by)
    release_promotion(world.services, promotion.id, world.step)
    error = world.records.get(Promotion, promotion.id).error
    assert error is not None
    assert (error["code"], error["message"]) == ("approval_void", "0 of 1 approvals")
    assert world.serving() is None


def test_a_moved_alias_holds_the_promotion(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    world.registry.move_alias(MODEL, "production", "2")
    release_promotion(world.services, second.id, world.step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert "@production points at version 2" in error["message"]
    assert world.serving() == "1"


def test_an_override_names_its_gates_is_still_approved_and_stays_visible(world: World) -> None:
    world.apply_policy(minimum=0.999)
    override = Override(frozenset({"accuracy"}), "the season changes")
    promotion = world.promoted(world.register(), override)
    assert promotion.state is RunState.DONE
    released = world.records.find(ReleaseRecord, environment=PRODUCTION)[-1]
    assert released.evidence["override"] == {"gates": ["accuracy"], "reason": "the season changes"}
    assert released.evidence["approved_by"] == ["bob"]
    report = world.records.get(Evaluation, promotion.evaluation_id).report or {}
    assert report["verdict"] == "failed"


def test_a_release_waits_while_the_target_still_shows_the_settled_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    start, observe = world.target.start, world.target.observe
    asked: list[Callable[[], None]] = []
    looks: list[SlotState] = []

    def start_later(release: Release, slot: Slot, *, epoch: int) -> None:
        asked.append(lambda: start(release, slot, epoch=epoch))

    def observe_then_start(endpoint: Endpoint, slot: Slot) -> SlotState:
        state = observe(endpoint, slot)
        looks.append(state)
        while asked and len(looks) > 3:
            asked.pop()()
        return state

    monkeypatch.setattr(world.target, "start", start_later)
    monkeypatch.setattr(world.target, "observe", observe_then_start)
    release_promotion(world.services, second.id, world.step)
    assert world.records.get(Promotion, second.id).state is RunState.DONE
    assert world.serving() == "2"


def test_a_release_that_crashes_while_it_is_watched_is_undone(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    watching = Services(**{**world.services.__dict__, "timing": Timing(0.5, 0.5, 0.3, 0.5, 0.001)})

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K7 every replica verified":
            threading.Timer(0.1, world.target.lose_a_replica, (Endpoint(MODEL, PRODUCTION),)).start()
        return action()

    release_promotion(watching, second.id, step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "deploy_failed"
    assert "not every replica goes on serving" in error["message"]
    assert world.serving() == "1"


def test_a_lost_answer_of_the_last_record_is_no_failure(world: World) -> None:
    promotion = world.approved(world.register())

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "K9 recorded":
            raise DatabaseUnavailable("recorded, but the answer was lost")
        return answer

    release_promotion(world.services, promotion.id, step)
    assert world.records.get(Promotion, promotion.id).state is RunState.DONE
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"


def at_k6(promote: World, act: Callable[[], None], **timing: float) -> Promotion:
    """Promote a version with `act` just before K6, as what happens after a kill there; it may wait without an end."""
    promotion = promote.approved(promote.register())

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith("K6"):
            act()
        return action()

    patient = replace(promote.services, timing=replace(promote.services.timing, converge_s=1e9, **timing))
    release_promotion(patient, promotion.id, step)
    return promote.records.get(Promotion, promotion.id)


@pytest.mark.parametrize("others", [None, Release("r-99", MODEL, PRODUCTION, "9", "sha256:9")])
def test_a_slot_that_was_not_asked_for_the_release_that_is_waited_for_is_asked_again(
    world: World, others: Release | None
) -> None:
    world.promoted(world.register())

    def restored() -> None:
        world.target.forget()
        if others:
            world.target.start(others, Slot.LIVE, epoch=1)

    assert at_k6(world, restored).error is None
    assert world.serving() == "2"


def test_a_slot_that_goes_on_saying_something_else_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())

    def deaf() -> None:
        world.target.forget()
        monkeypatch.setattr(world.target, "start", lambda release, slot, *, epoch: None)

    error = at_k6(world, deaf, order_s=0.0).error or {}
    assert (error["code"], "was asked for r-4, and says for nothing" in error["message"]) == ("deploy_failed", True)
    # What is recorded is asked for by another call, and comes.
    assert world.serving() == "1"
