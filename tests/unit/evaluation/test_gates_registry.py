"""A gate is one file: whatever is known of gates elsewhere comes from it."""

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import Field

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import Override, RunState
from pipelines.domain.records import Evaluation
from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import PolicyInvalid, UsageError
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.registry import GATES, Gates
from pipelines.evaluation.gates.service.world import Service
from tests.support.world.world import MODEL, STAGING, World, policy_body

# Here begins all that somebody writes for a gate.


class HeightLimits(Limits):
    """How high the plants of an evaluation set may be."""

    most_m: float = Field(2.5, gt=0, le=100, description="the height of the highest plant")


@dataclass(frozen=True)
class Heights:
    highest_m: float


def measure(world: Offline, limits: HeightLimits) -> Heights:
    return Heights(float(world.snapshot.frame["height"].max()))


def judge(heights: Heights, limits: HeightLimits) -> list[GateResult]:
    good = heights.highest_m <= limits.most_m
    verdict = Verdict.PASSED if good else Verdict.FAILED
    message = f"{'PASS ' if good else 'FAIL: '}height={heights.highest_m:.4f} {'<=' if good else '>'} {limits.most_m:g}"
    return [GateResult("height", verdict, message, observed=heights.highest_m, limit=limits.most_m)]


HEIGHT = Gate(
    name="height",
    description="No plant is higher than the limit.",
    limits=HeightLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.EVALUATION_SET}),
    overridable=True,
)

# Here it ends.

LISTED = Gates((*GATES.all[:7], HEIGHT, *GATES.all[7:]))


def with_height(most_m: float) -> dict[str, Any]:
    body = policy_body()
    body["gates"]["height"] = {"most_m": most_m}
    return body


def evaluated(world: World, gates: Gates, body: dict[str, Any], override: Override | None = None) -> Evaluation:
    """Put a policy in force and evaluate a new version by a list of gates."""
    commands.request_policy(world.records, person="alice", model=MODEL, policy=gates.read_policy(body), now=now())
    world.round()
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=override, now=now()
    )
    world.jobs.options = {"gates": gates}
    evaluate(world.services, asked.id, world.step, gates)
    return world.records.get(Evaluation, asked.id)


def gate_names(evaluation: Evaluation) -> list[str]:
    assert evaluation.report is not None
    return list(dict.fromkeys(result.gate for result in Report.read(evaluation.report).gates))


def test_its_section_of_the_policy_is_known_and_strict_and_has_defaults() -> None:
    body = policy_body()

    assert LISTED.read_policy(body).body["gates"]["height"] == {"most_m": 2.5, "warn_only": False}
    assert HEIGHT.limits_of(LISTED.read_policy(with_height(7))).most_m == 7
    with pytest.raises(PolicyInvalid, match=r"policy\.gates\.height\.most_m is out of range") as refused:
        LISTED.read_policy(with_height(0))
    assert refused.value.next == "legal: above 0 and at most 100"
    with pytest.raises(PolicyInvalid, match=r"unknown policy key 'height' in policy\.gates"):
        GATES.read_policy(with_height(7))


def test_a_policy_stored_before_it_was_written_has_its_default_and_keeps_its_digest() -> None:
    stored = GATES.read_policy(policy_body())

    assert HEIGHT.limits_of(stored).most_m == 2.5
    assert stored.digest == GATES.read_policy(stored.body).digest


def test_it_is_measured_in_its_place_and_reported(world: World) -> None:
    evaluation = evaluated(world, LISTED, with_height(1e2))

    assert evaluation.state is RunState.DONE
    assert gate_names(evaluation) == [gate.name for gate in LISTED.all]
    page = world.registry.evidence[MODEL, "1"]["report.html"].decode()
    assert "<td>height</td>" in page


def test_its_no_stops_a_version_unless_a_person_overrides_it_by_name(world: World) -> None:
    stopped = evaluated(world, LISTED, with_height(0.001))

    assert stopped.state is RunState.STOPPED
    assert stopped.error is not None
    assert stopped.error["message"].startswith("FAIL: height=")
    assert stopped.error["next"].endswith('"make promote VERSION=1 OVERRIDE=... GATES=height"')
    override = LISTED.read_override(["height"], "a greenhouse of its own")
    accepted = evaluated(world, LISTED, with_height(0.001), override)
    assert (accepted.state, accepted.verdict) == (RunState.DONE, "failed")
    with pytest.raises(UsageError, match="gate 'height' can't be overridden"):
        GATES.read_override(["height"], "no such gate here")


def test_where_the_policy_has_it_warn_only_its_no_is_shown_and_the_version_goes_on(world: World) -> None:
    policy = with_height(0.001)
    policy["gates"]["height"]["warn_only"] = True
    evaluation = evaluated(world, LISTED, policy)

    assert (evaluation.state, evaluation.verdict) == (RunState.DONE, "passed")
    assert evaluation.report is not None
    (height,) = [each for each in Report.read(evaluation.report).gates if each.name == "height"]
    assert (height.verdict, height.warn_only) == (Verdict.FAILED, True)
    assert height.message.startswith("WARN (the policy lets it go on): FAIL: height=")


def test_a_gate_over_the_running_service_is_measured_there_until_one_says_no(world: World) -> None:
    seen: list[str] = []

    def visit(service: Service, limits: HeightLimits) -> Heights:
        seen.append(service.release.version)
        return Heights(1.0)

    def gate(name: str) -> Gate[Service, HeightLimits, Heights]:
        def judged(heights: Heights, limits: HeightLimits) -> list[GateResult]:
            verdict = Verdict.PASSED if heights.highest_m <= limits.most_m else Verdict.INCONCLUSIVE
            return [GateResult(f"{name}.at_noon", verdict, f"{verdict} {name}")]

        needs = frozenset({Need.SERVICE})
        return Gate(
            name=name, description="", limits=HeightLimits, measure=visit, judge=judged, needs=needs, section="slope"
        )

    body = {**policy_body(), "slope": {"most_m": 0.5}}
    evaluation = evaluated(world, Gates((*GATES.all, gate("dawn"), gate("dusk"))), body)

    assert evaluation.error is not None
    assert (evaluation.verdict, evaluation.error["message"]) == ("inconclusive", "inconclusive dawn")
    assert seen == ["1"]
    assert gate_names(evaluation)[-1] == "dawn"
    assert world.serving(STAGING) is None


def test_nothing_of_a_model_is_run_before_every_gate_over_its_bytes_said_yes(world: World) -> None:
    def ran(world: Offline, limits: HeightLimits) -> Heights:
        raise AssertionError("a model was run whose bytes were refused")

    def broken(heights: Heights, limits: HeightLimits) -> list[GateResult]:
        return [replace(result, name="seal") for result in judge(heights, limits)]

    bytes_refused = Gate(name="seal", description="", limits=HeightLimits, measure=measure, judge=broken)
    model = Gate(
        name="ran", description="", limits=HeightLimits, measure=ran, judge=judge, needs=frozenset({Need.MODEL})
    )
    body = policy_body()
    body["gates"]["seal"] = {"most_m": 0.001}
    evaluation = evaluated(world, Gates((model, bytes_refused, *GATES.all)), body)

    assert evaluation.state is RunState.STOPPED
    assert gate_names(evaluation) == ["seal", "digest", "artifact_safety"]


@pytest.mark.parametrize("need", [Need.CHAMPION, Need.PREDICTIONS])
def test_without_what_it_needs_a_gate_does_not_apply_and_says_why(world: World, need: Need) -> None:
    def never(world: Offline, limits: HeightLimits) -> Heights:
        raise AssertionError("measured without what it needs")

    needs = frozenset({need, Need.SERVICE})
    gate = Gate(
        name="height", description="", limits=HeightLimits, measure=never, judge=judge, needs=needs, unless="nothing"
    )
    evaluation = evaluated(world, Gates((*GATES.all, gate)), policy_body())

    assert evaluation.report is not None
    told = Report.read(evaluation.report).gates[-1]
    assert (told.name, told.verdict, told.message) == ("height", Verdict.NOT_APPLICABLE, "nothing")


@pytest.mark.parametrize("gate", GATES.all, ids=lambda gate: str(gate.name))
def test_every_gate_says_what_people_have_to_know(gate: Gate[Any, Any, Any]) -> None:
    assert gate.description.endswith(".")
    always_there = {Need.MODEL, Need.EVALUATION_SET, Need.SERVICE}
    assert bool(gate.needs - always_there) == bool(gate.unless)
    for key, field in gate.limits.model_fields.items():
        assert field.description, f"{gate.place}.{key}"


def test_nothing_heavy_is_imported_to_read_a_policy() -> None:
    program = """
import sys
from pipelines.evaluation.gates.registry import GATES
GATES.read_policy({"schema_version": 2, "profile": "full"})
print(*sorted({"mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "scipy", "sklearn"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == ""
