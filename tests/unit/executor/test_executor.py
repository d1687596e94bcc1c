"""What the executor moves between workflows: policies, expiry, and the trail of it all."""

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain import audit
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, PolicyChange, Promotion, Rollback
from pipelines.errors import NotAllowed, SlipwayError
from pipelines.evaluation.gates.quality.accuracy import ACCURACY
from pipelines.evaluation.gates.registry import GATES
from pipelines.executor import promotions
from pipelines.releases.services import Services
from tests.support.world.records import add
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


def test_a_policy_that_can_not_be_read_is_stopped_and_keeps_no_other_work_from_beginning(world: World) -> None:
    world.promoted(world.register())
    rollback = commands.request_rollback(world.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
    add(world.records, PolicyChange("y-9", "sha256:?", {"schema_version": 99}, "alice", now(), model=MODEL))
    world.round()
    stopped = world.records.get(PolicyChange, "y-9")
    assert (stopped.state, (stopped.error or {})["code"]) == (RunState.STOPPED, "policy_invalid")
    assert world.records.get(Rollback, rollback.id).state is RunState.RUNNING
    assert world.services.policy(MODEL).digest != "sha256:?"


@pytest.mark.parametrize("trouble", [NotAllowed("forbidden"), ValueError("a bug")])
def test_what_is_refused_in_a_round_keeps_nothing_else_from_being_done(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    def refuse(services: Services, beat: object) -> None:
        raise trouble

    monkeypatch.setattr(promotions, "let_wait", refuse)
    evaluation = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    world.round()
    assert world.records.get(Evaluation, evaluation.id).state is RunState.RUNNING
    assert str(trouble) in caplog.text
