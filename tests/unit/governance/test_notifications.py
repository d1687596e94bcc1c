"""People are told of what concerns them, one line for each event of a promotion, a rollback or a failure."""

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.records import Evaluation, Observation
from pipelines.domain.release import Environment
from pipelines.governance.notifications import notifying
from pipelines.governance.standing import evidence_of
from pipelines.governance.subscribers import Subscriptions
from pipelines.releases import reconcile
from pipelines.releases.promote import release_promotion
from pipelines.releases.reconcile import Drifts, observe_environment
from tests.support.world.world import MODEL, World


class Chat:
    """Is told of what happens in a world from now on."""

    def __init__(self, world: World) -> None:
        self._subscriptions = Subscriptions(world.records)
        self._lines: list[str] = []
        self._subscriptions.subscribe("chat", notifying(self._lines.append))

    def lines(self) -> list[str]:
        """Return what was told since the last call."""
        self._subscriptions.deliver()
        told, self._lines[:] = list(self._lines), []
        return told


@pytest.fixture
def chat(world: World) -> Chat:
    return Chat(world)


def test_a_promotion_is_told_from_the_question_to_the_release(world: World, chat: Chat) -> None:
    promotion = world.promoted(world.register())

    assert chat.lines() == [
        "staging serves version 1",
        f"{promotion.id} waits for people to decide on version 1, until {promotion.expires_at}",
        f"{promotion.id} of version 1 is approved",
        "production serves version 1",
    ]


def test_a_rollback_is_told_by_what_serves_again(world: World, chat: Chat) -> None:
    for _ in range(2):
        world.promoted(world.register())
    chat.lines()
    world.rolled_back()

    assert chat.lines() == ["production serves version 1"]


def test_a_no_is_told_with_who_said_it_and_why(world: World, chat: Chat) -> None:
    asked = commands.request_promotion(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    world.evaluated("1")
    world.round()
    evidence = evidence_of(world.records, asked)
    reason = "slow\x1b[2J today\nproduction serves version 9"
    commands.decide(
        world.records, person="bob", promotion_id=asked.id, approved=False, reason=reason, evidence=evidence, now=now()
    )

    assert chat.lines()[-1] == f"{asked.id} was stopped: rejected by bob: slow\\x1b[2J today"


def test_a_failed_release_is_told_and_the_promotion_that_it_stops(world: World, chat: Chat) -> None:
    promotion = world.approved(world.register())
    chat.lines()
    evaluation = world.records.get(Evaluation, promotion.evaluation_id)
    world.target.broken[str(evaluation.bundle_digest)] = ("no memory",)
    release_promotion(world.services, promotion.id, world.step)

    failed, stopped = chat.lines()[-2:]
    assert failed.startswith("version 1 failed in production: ")
    assert stopped.startswith(f"{promotion.id} was stopped: ")


def test_a_disagreement_and_a_policy_are_told(world: World, chat: Chat) -> None:
    world.promoted(world.register())
    chat.lines()
    world.registry.move_alias(MODEL, "production", None)
    observe_environment(world.services, MODEL, Environment.PRODUCTION)
    world.apply_policy(minimum=0.6)

    (seen,) = [each for each in world.records.find(Observation) if each.id == f"{MODEL}/production"]
    assert chat.lines() == [f"{seen.id}: {seen.drift}", f"policy {world.services.policy(MODEL).digest} is in force"]


def test_a_disagreement_that_comes_and_goes_is_told_now_and_then(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    chat.lines()
    drifts = Drifts()

    def come_and_go() -> list[str]:
        for alias in (None, "1"):
            world.registry.move_alias(MODEL, "production", alias)
            observe_environment(world.services, MODEL, Environment.PRODUCTION, drifts=drifts)
        return chat.lines()

    assert [len(come_and_go()) for _ in range(3)] == [1, 0, 0]
    audited = world.records.audited(f"{MODEL}/production")
    assert [entry.action for entry in audited] == ["drift"]
    monkeypatch.setattr(reconcile, "TOLD_S", 0.0)
    assert len(come_and_go()) == 1
