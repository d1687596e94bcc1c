"""What the executor moves between workflows: policies, expiry, abandoned work, and the trail of it all."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain import audit
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Lease, Promotion, ReleaseRecord
from pipelines.errors import SlipwayError
from pipelines.evaluation.gates.offline.accuracy import ACCURACY
from pipelines.evaluation.gates.registry import GATES
from pipelines.executor.workflows import end_abandoned
from pipelines.releases.promote import release_promotion
from tests.support.world.world import MODEL, PRODUCTION, World, policy_body


def test_every_outside_effect_has_its_intent_and_outcome_in_one_valid_chain(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    world.rolled_back()
    trail = list(world.records.audit_trail())
    assert audit.verify(trail, []).valid
    for action in ("release.staging", "release.promotion", "release.rollback", "alias.move"):
        intents_of = [entry.subject for entry in trail if entry.action == action and entry.phase == "intent"]
        outcomes = [entry.subject for entry in trail if entry.action == action and entry.phase == "outcome"]
        assert intents_of
        assert intents_of == outcomes


def test_a_policy_comes_into_force_and_is_audited(world: World) -> None:
    world.apply_policy(minimum=0.7)
    assert ACCURACY.limits_of(world.services.policy(MODEL)).minimum == 0.7
    assert GATES.read_policy(policy_body()).digest != world.services.policy(MODEL).digest
    assert [entry.phase for entry in world.records.audit_trail() if entry.action == "policy"][-2:] == [
        "intent",
        "outcome",
    ]


def test_a_promotion_that_nobody_decides_on_expires(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    asked = commands.request_promotion(
        world.records, person="alice", model=MODEL, version=version, override=None, now="2020-01-01T00:00:00.000+00:00"
    )
    world.round()
    error = world.records.get(Promotion, asked.id).error
    assert error is not None
    assert SlipwayError.from_dict(error).exit_code == 4


def test_work_whose_workflow_ended_without_an_outcome_is_ended_and_gives_its_lease_back(world: World) -> None:
    promotion = world.approved(world.register())

    class LostError(Exception):
        """Stands for a workflow that the engine gave up."""

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K5 target updated":
            raise LostError
        return action()

    with world.records.write() as transaction:
        transaction.change(promotion, state=RunState.RUNNING)
    with pytest.raises(LostError):
        release_promotion(world.services, promotion.id, step)
    end_abandoned(world.services, lambda work_id: False)
    assert world.records.get(Promotion, promotion.id).state is RunState.RUNNING
    end_abandoned(world.services, lambda work_id: True)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "internal")
    assert world.records.find(Lease, holder=promotion.id) == []
    assert world.records.find(ReleaseRecord, environment=PRODUCTION)[-1].state is ReleaseState.FAILED


def test_a_promotion_that_waits_for_an_evaluation_ends_with_it_when_that_is_abandoned(world: World) -> None:
    version = world.register()
    promotion = commands.request_promotion(
        world.records, person="alice", model=MODEL, version=version, override=None, now=now()
    )
    with world.records.write() as transaction:
        transaction.change(world.records.get(Evaluation, promotion.evaluation_id), state=RunState.RUNNING)
    end_abandoned(world.services, lambda work_id: True)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "internal")
