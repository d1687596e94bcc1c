"""Gates that changed: audited once, new promotions measure again, and what was asked before goes on and is told."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.errors import LostLease
from pipelines.evaluation.gates.code import gates_digest
from pipelines.executor.gates import put_gates_in_force
from pipelines.governance.progress import progress_of
from pipelines.governance.standing import GATES_CHANGE, changed_since, gates_in_force
from pipelines.releases.promote import release_promotion
from tests.support.world.records import add, evaluation, policy_body, promotion, put_in_force, report
from tests.support.world.world import World


def changes(world: World) -> list[dict[str, Any]]:
    return [entry.detail for entry in world.records.audit_trail() if entry.action == GATES_CHANGE]


def test_a_change_is_audited_once(world: World) -> None:
    for digest in ("sha256:a", "sha256:a", "sha256:b", "sha256:b"):
        put_gates_in_force(world.services, digest)

    assert gates_in_force(world.records) == "sha256:b"
    assert changes(world) == [{"was": None, "digest": "sha256:a"}, {"was": "sha256:a", "digest": "sha256:b"}]


def test_who_is_no_executor_any_more_puts_nothing_in_force(world: World) -> None:
    with pytest.raises(LostLease):
        put_gates_in_force(replace(world.services, executor="former"), "sha256:a")

    assert gates_in_force(world.records) is None


def test_a_report_names_the_gates_and_a_new_promotion_rests_on_it_while_they_are_in_force(world: World) -> None:
    put_gates_in_force(world.services, gates_digest())
    measured = world.evaluated(world.register())

    assert measured.report is not None
    assert measured.report["gates_digest"] == gates_digest()
    assert world.approved(measured.version).evaluation_id == measured.id


def test_what_waits_when_gates_change_is_told_and_goes_on_by_its_report(world: World) -> None:
    asked = world.approved(world.register())
    put_gates_in_force(world.services, "sha256:other")

    (told,) = [line.message for line in progress_of(world.records, asked.id) if line.step == "gates changed"]
    assert f"was made by the gates {gates_digest()}, and sha256:other are in force now" in told
    release_promotion(world.services, asked.id, world.step)
    assert world.serving() == asked.version


def test_a_new_promotion_measures_again_and_says_what_changed(world: World) -> None:
    measured = world.evaluated(world.register())
    put_gates_in_force(world.services, "sha256:other")

    asked = world.approved(measured.version)

    assert asked.evaluation_id != measured.id
    changed = f"gates digest was {gates_digest()} and is sha256:other"
    told = [line.message for line in progress_of(world.records, asked.id) if line.step == "earlier pass void"]
    assert told == [f"{measured.id} has passed, and does not count any more: {changed}"]
    intent = next(entry for entry in world.records.audited(asked.id) if entry.action == "promotion")
    assert intent.detail["void"] == {"evaluation": measured.id, "changed": [changed]}


@pytest.mark.parametrize(
    ("then", "in_force", "named"),
    [
        ({}, {}, ["gates digest was not recorded and is sha256:now"]),
        ({"gates_digest": "sha256:now"}, {}, []),
        ({"gates_digest": "sha256:now"}, {"gates.accuracy.minimum": 0.9}, ["policy"]),
        (
            {"gates_digest": "sha256:now"},
            {"evaluation.set": f"sha256:{'1' * 64}"},
            [f"evaluation set was sha256:e and is sha256:{'1' * 64}", "policy"],
        ),
    ],
    ids=["report of before", "nothing", "policy", "set"],
)
def test_what_changed_since_a_report_is_named(
    world: World, then: dict[str, str], in_force: dict[str, Any], named: list[str]
) -> None:
    before = put_in_force(world.records, policy_body())
    made = {**report(policy=before), **then}
    put_in_force(world.records, policy_body(**in_force))
    put_gates_in_force(world.services, "sha256:now")

    found = changed_since(world.records, evaluation("e-9", report=made))

    assert len(found) == len(named)
    assert all(each.startswith(start) for each, start in zip(found, named, strict=True))


def test_what_has_ended_or_has_no_report_is_not_told(world: World) -> None:
    ended = promotion("p-8", evaluation_id="e-8", state=RunState.DONE)
    unmeasured = promotion("p-9", "3", evaluation_id="e-9", state=RunState.REQUESTED)
    add(world.records, evaluation("e-8", report=None), ended, evaluation("e-9", "3", report=None), unmeasured)

    put_gates_in_force(world.services, "sha256:now")

    assert [progress_of(world.records, id) for id in ("p-8", "p-9")] == [[], []]
    assert world.records.get(Evaluation, "e-9").report is None
