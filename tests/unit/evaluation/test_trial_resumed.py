"""A trial that was cut off with its executor: what was started for it is looked for, or started again, and never judged
for not being there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.domain.release import Endpoint, Slot
from pipelines.errors import DeployFailed
from pipelines.evaluation.evaluate import evaluate
from pipelines.ports import HttpReply
from pipelines.releases.leader import give_up_leader_lease, take_leader_lease
from tests.support.world.world import MODEL, STAGING, World

SMOKE, SLO = "smoke and contract", "latency SLO under load"


class DeadError(Exception):
    """Stands for the end of the executor's process."""


class Journal:
    """Keeps the answers of steps; an executor dies just before one of them, and does nothing any more."""

    def __init__(self, dies_before: str) -> None:
        self._dies_before = dies_before
        self._dead = False
        self._answers: dict[str, Any] = {}

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        if self._dead or name == self._dies_before:
            self._dead = True
            raise DeadError
        if name not in self._answers:
            self._answers[name] = action()
        return self._answers[name]

    def revive(self) -> None:
        self._dies_before, self._dead = "", False


class Reached:
    """Answers as the probe of a world does, where anything serves in the trial slot."""

    def __init__(self, world: World) -> None:
        self._target, self._probe = world.target, world.services.probe

    def get(self, url: str) -> HttpReply:
        self._reach(url)
        return self._probe.get(url)

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        self._reach(url)
        return self._probe.post(url, content, headers, timeout_s=timeout_s)

    def _reach(self, url: str) -> None:
        if self._target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).release is None:
            raise DeployFailed(f"{url} does not answer")


def cut_off(world: World, before: str) -> tuple[Evaluation, Journal]:
    """Evaluate version 2 over version 1, and lose the executor before a step."""
    world.promoted(world.register())
    world.services = replace(world.services, probe=Reached(world))
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    journal = Journal(before)
    with pytest.raises(DeadError):
        evaluate(world.services, asked.id, journal.step)
    return asked, journal


def gone_on_with(world: World, asked: Evaluation, journal: Journal) -> Evaluation:
    give_up_leader_lease(world.services)
    world.services = replace(world.services, executor="two")
    take_leader_lease(world.services)
    journal.revive()
    evaluate(world.services, asked.id, journal.step)
    return world.records.get(Evaluation, asked.id)


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("before", ["first request timed", SMOKE, "champion started beside it", SLO])
def test_a_version_whose_trial_was_lost_with_the_executor_is_tried_again_and_not_rejected(
    world: World, before: str, restarted: bool
) -> None:
    asked, journal = cut_off(world, before)
    loaded: list[str] = []

    def look() -> None:
        states = (world.target.observe(Endpoint(MODEL, STAGING), slot).release for slot in (Slot.TRIAL, Slot.BASELINE))
        loaded.extend(release.version for release in states if release)

    world.loads.meanwhile = look
    if restarted:
        # As with its machine, and without its record.
        world.target.forget()
    ended = gone_on_with(world, asked, journal)
    assert (ended.state, ended.verdict, loaded) == (RunState.DONE, "passed", ["2", "1"])
    assert world.lifecycle("2") == "Staging"


def test_a_trial_that_does_not_come_up_again_says_nothing_of_the_version(world: World) -> None:
    asked, journal = cut_off(world, SMOKE)
    started = world.target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).release
    assert started
    world.target.forget()
    world.target.broken[started.bundle_digest] = ("no room",)
    ended = gone_on_with(world, asked, journal)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "undecided")
    assert "does not serve version 2 any more" in (ended.error or {})["message"]
    assert (ended.report, world.lifecycle("2")) == (None, "Candidate")
