from pathlib import Path
from typing import Any

import pytest

from pipelines.domain.description import Golden
from pipelines.domain.release import Environment, Release
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.service.smoke import SMOKE
from pipelines.evaluation.gates.service.world import Service
from pipelines.ports import HttpReply
from tests.support.world.fakes import FakeLoadRunner, FakeProbe
from tests.support.world.records import policy

RELEASE = Release("trial-e-1", "toy-model", Environment.STAGING, "2", "sha256:b")
BODY: dict[str, Any] = {
    "golden": {
        "rows": [{"age": 30, "plan": "basic"}, {"age": 40, "plan": "pro"}],
        "expected": [{"prediction": "No", "probability": 0.25}, {"prediction": "Yes", "probability": 0.75}],
        "tolerance": 1e-5,
    }
}
PREDICTED = {"prediction": "No", "probability": 0.25, "model": "toy-model", "version": "2", "request_id": "smoke-0"}
HEALTH = {"stage": "Staging", "status": "ok", "model": "toy-model", "version": "2", "digest": "sha256:b"}
BATCH = [{"prediction": "No", "probability": 0.25}, {"prediction": "Yes", "probability": 0.75}]


@pytest.fixture
def probe() -> FakeProbe:
    return FakeProbe(RELEASE, BODY["golden"])


def smoke(probe: FakeProbe, nullable: frozenset[str] = frozenset()) -> GateResult:
    service = Service(
        url="http://127.0.0.1:9",
        release=RELEASE,
        golden=Golden.model_validate(BODY["golden"]),
        profile=Profile.FULL,
        rows=[],
        probe=probe,
        loads=FakeLoadRunner(),
        releases=list,
        workdir=Path(),
        nullable=nullable,
    )
    (result,) = SMOKE.results(service, policy())
    return result


def test_a_service_that_keeps_its_contract_passes(probe: FakeProbe) -> None:
    result = smoke(probe)

    assert (result.verdict, result.message) == (
        Verdict.PASSED,
        "PASS smoke: health, ready, golden rows, batch, refusals",
    )


@pytest.mark.parametrize("nullable", [{"age"}, {"age", "plan"}])
def test_a_field_that_may_be_missing_is_not_asked_for(probe: FakeProbe, nullable: set[str]) -> None:
    probe.nullable = nullable

    assert smoke(probe, frozenset(nullable)).verdict is Verdict.PASSED
    assert smoke(probe).verdict is Verdict.FAILED


def ok(body: Any) -> HttpReply:
    return HttpReply(200, body, {})


@pytest.mark.parametrize(
    ("asked", "answer", "named"),
    [
        ("/health", ok({**HEALTH, "version": "1"}), "health"),
        ("/health", ok({**HEALTH, "stage": "Production"}), "health"),
        ("/health", ok({**HEALTH, "digest": "sha256:a"}), "health"),
        ("/health", ok({**HEALTH, "status": "no release"}), "health"),
        ("/health", HttpReply(503, HEALTH, {}), "health"),
        ("/health", ok(None), "health"),
        ("/health", DeployFailed("http://127.0.0.1:9/health does not answer"), "health: http"),
        ("/ready", HttpReply(503, {"reason": "no release"}, {}), "ready"),
        ("/ready", ok({"digest": "sha256:a"}), "ready"),
        ("/ready", ok({}), "ready"),
        ("/ready", ok(None), "ready"),
        ("/ready", ok(["sha256:b"]), "ready"),
        ("/predict#0", ok({**PREDICTED, "probability": 0.26}), "golden rows: row 0"),
        ("/predict#0", ok({**PREDICTED, "probability": float("nan")}), "golden rows: row 0"),
        ("/predict#0", ok({**PREDICTED, "probability": "0.25"}), "golden rows: row 0"),
        ("/predict#0", ok({**PREDICTED, "prediction": "Yes"}), "golden rows: row 0"),
        ("/predict#0", ok({**PREDICTED, "version": "1"}), "golden rows: row 0"),
        ("/predict#0", ok({**PREDICTED, "request_id": "made"}), "golden rows: row 0"),
        ("/predict#0", ok({"probability": 0.25}), "golden rows: row 0"),
        ("/predict#0", ok({}), "golden rows: row 0"),
        ("/predict#0", ok(None), "golden rows: row 0"),
        ("/predict#0", ok([PREDICTED]), "golden rows: row 0"),
        ("/predict#1", HttpReply(500, None, {}), "golden rows: row 1"),
        ("/predict/batch#0", HttpReply(503, {}, {}), "batch"),
        ("/predict/batch#0", ok(None), "batch"),
        ("/predict/batch#0", ok({}), "batch"),
        ("/predict/batch#0", ok({"predictions": 2}), "batch"),
        ("/predict/batch#0", ok({"predictions": []}), "batch"),
        ("/predict/batch#0", ok({"predictions": BATCH[:1]}), "batch"),
        ("/predict/batch#0", ok({"predictions": BATCH[::-1]}), "batch"),
        ("/predict/batch#0", ok({"predictions": [None, None]}), "batch"),
        ("/predict#2", HttpReply(200, PREDICTED, {}), "refusals: b'not json'"),
        ("/predict#2", HttpReply(500, None, {}), "refusals: b'not json'"),
        ("/predict#3", ok(PREDICTED), "refusals"),
        ("/predict#3", HttpReply(422, {"error": {"fields": [{"field": "plan"}]}}, {}), "refusals"),
        ("/predict#4", ok(PREDICTED), "slipway_unknown"),
        ("/predict#4", HttpReply(422, None, {}), "slipway_unknown"),
        ("/predict#4", HttpReply(422, [], {}), "slipway_unknown"),
        ("/predict#4", HttpReply(422, {"error": "no"}, {}), "slipway_unknown"),
        ("/predict#4", HttpReply(422, {"error": {"fields": ["slipway_unknown"]}}, {}), "slipway_unknown"),
        ("/predict#5", ok({**PREDICTED, "probability": float("nan")}), "NaN"),
        ("/predict#5", HttpReply(500, None, {}), "NaN"),
        ("/predict#6", ok(PREDICTED), "nested"),
        ("/predict#6", DeployFailed("http://127.0.0.1:9/predict does not answer"), "does not answer"),
    ],
)
def test_one_wrong_answer_fails_the_gate_and_is_named(
    probe: FakeProbe, asked: str, answer: HttpReply | DeployFailed, named: str
) -> None:
    probe.answers[asked] = answer

    result = smoke(probe)

    assert result.verdict is Verdict.FAILED
    assert result.message.startswith("FAIL: smoke: ")
    assert named in result.message
