"""Going back over fakes of the ports and a real database."""

from collections.abc import Callable
from typing import Any

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Promotion, Rollback
from pipelines.releases.promote import release_promotion
from pipelines.releases.rollback import roll_back
from tests.support.world.world import MODEL, PRODUCTION, World


def test_who_sees_a_promotion_done_can_ask_for_a_rollback_at_once(world: World) -> None:
    world.promoted(world.register())
    promotion = world.approved(world.register())
    rolled_back: list[Rollback] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        seen = world.records.get(Promotion, promotion.id)
        if seen.state is RunState.DONE and not rolled_back:
            rolled_back.append(world.rolled_back())
        return action()

    release_promotion(world.services, promotion.id, step)
    assert [work.state for work in rolled_back] == [RunState.DONE]
    assert world.serving() == "1"


def test_rollback_restores_the_previous_good_release_and_marks_the_bad_one(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    rollback = world.rolled_back()
    assert (rollback.state, rollback.replaced, rollback.version) == (RunState.DONE, "2", "1")
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert (world.lifecycle("1"), world.lifecycle("2")) == ("Production", "RolledBack")


def test_a_second_rollback_never_returns_to_a_bad_version(world: World) -> None:
    for _ in range(3):
        world.promoted(world.register())
    assert world.rolled_back().version == "2"
    assert world.rolled_back().version == "1"
    refused = world.rolled_back()
    assert refused.error is not None
    assert refused.error["code"] == "no_rollback_target"
    assert world.serving() == "1"


def test_rollback_to_a_bundle_that_was_tampered_with_is_refused_and_the_current_serves(world: World) -> None:
    first = world.promoted(world.register())
    world.promoted(world.register())
    digest = world.records.get(Evaluation, first.evaluation_id).bundle_digest or ""
    world.target.missing.add(digest)
    refused = world.rolled_back()
    assert refused.error is not None
    assert refused.error["code"] == "deploy_failed"
    assert world.serving() == "2"


def test_a_rollback_of_what_no_longer_serves_is_refused(world: World) -> None:
    for _ in range(3):
        world.promoted(world.register())
    asked = [
        commands.request_rollback(world.records, person=person, model=MODEL, environment=PRODUCTION, now=now())
        for person in ("alice", "bob")
    ]
    for rollback in asked:
        roll_back(world.services, rollback.id, world.step)
    second = world.records.get(Rollback, asked[1].id)
    assert "since this was asked for" in (second.error or {})["message"]
    assert world.serving() == "2"
