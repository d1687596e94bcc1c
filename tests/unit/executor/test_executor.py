"""What the executor moves between workflows: policies, expiry, and the trail of it all."""

from pipelines import commands
from pipelines.domain import audit
from pipelines.domain.records import Promotion
from pipelines.errors import SlipwayError
from pipelines.evaluation.gates.offline.accuracy import ACCURACY
from pipelines.evaluation.gates.registry import GATES
from tests.support.world.world import MODEL, World, policy_body


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
