"""Going back over fakes of the ports and a real database."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Slot
from pipelines.errors import Refused
from pipelines.governance.progress import progress_of
from pipelines.releases.mending import mend_slots
from pipelines.releases.promote import release_promotion
from pipelines.releases.reconcile import observe_environment
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


def test_a_release_that_restores_itself_by_a_damaged_record_can_be_rolled_back(world: World) -> None:
    for _ in range(2):
        world.promoted(world.register())
    (serving,) = world.records.find(ReleaseRecord, environment=PRODUCTION, state=ReleaseState.SERVING)
    with world.records.write() as transaction:
        transaction.change(serving, restores=serving.id)
    rollback = world.rolled_back()
    assert (rollback.state, rollback.version) == (RunState.DONE, "1")
    assert world.records.get(ReleaseRecord, serving.id).state is ReleaseState.ROLLED_BACK


def test_a_version_that_was_deleted_from_the_registry_can_be_gone_back_to(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    world.registry.delete(MODEL, "1")
    rollback = world.rolled_back()
    assert (rollback.state, rollback.version, world.serving()) == (RunState.DONE, "1", "1")
    assert "production" not in world.registry.aliases(MODEL)
    moved = [e for e in world.records.audited(rollback.release_id or "") if e.action == "alias.move"]
    assert [(e.phase, e.detail.get("result")) for e in moved] == [
        ("intent", None),
        ("outcome", "version deleted, alias removed"),
    ]
    assert "deleted from the registry" in str(progress_of(world.records, rollback.id))
    assert world.lifecycle("2") == "RolledBack"
    seen = observe_environment(world.services, MODEL, PRODUCTION)
    assert seen.drift == "version 1 serves, and is deleted from the registry"
    # And on to another version.
    assert world.promoted(world.register()).state is RunState.DONE
    assert world.registry.aliases(MODEL)["production"] == world.serving() == "3"


def test_a_deleted_version_that_serves_holds_no_promotion_unless_the_alias_names_another(world: World) -> None:
    world.promoted(world.register())
    staged = world.register()
    world.evaluated(staged)
    world.registry.delete(MODEL, "1")
    world.registry.move_alias(MODEL, "production", staged)
    held = world.promoted(staged)
    assert "remove the alias in MLflow" in (held.error or {})["next"]
    world.registry.move_alias(MODEL, "production", None)
    assert world.promoted(staged).state is RunState.DONE
    assert world.registry.aliases(MODEL)["production"] == staged


def test_a_promotion_of_a_version_that_was_deleted_meanwhile_is_undone(world: World) -> None:
    world.promoted(world.register())
    promotion = world.approved(world.register())
    world.registry.delete(MODEL, "2")
    release_promotion(world.services, promotion.id, world.step)
    assert (world.records.get(Promotion, promotion.id).error or {})["code"] == "deploy_failed"
    assert world.registry.aliases(MODEL)["production"] == world.serving() == "1"


def test_a_release_whose_record_was_changed_is_neither_gone_back_to_nor_served_again(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    first, second = world.records.find(ReleaseRecord, environment=PRODUCTION)
    with world.records.write() as transaction:
        transaction.change(first, bundle_digest=second.bundle_digest)
    assert "the record was changed" in (world.rolled_back().error or {})["message"]
    assert world.serving() == "2"
    with world.records.write() as transaction:
        transaction.change(second, bundle_digest=first.bundle_digest)
    # Its target has lost its record.
    world.target.forget()
    with pytest.raises(Refused, match="the record was changed"):
        mend_slots(world.services, second.release.endpoint)
    assert world.target.observe(second.release.endpoint, Slot.LIVE).wanted_id is None
    assert {e.action for e in world.records.audited(second.id)} == {"release.promotion", "alias.move"}
