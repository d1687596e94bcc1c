"""Gate: the deployed service answers as its contract says, right rows right and wrong rows refused.

Health alone proves nothing: the golden rows are asked through the same route that clients use.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipelines.domain.description import AnyAnswer, Golden, ValueAnswer, difference
from pipelines.domain.release import Release
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.service.world import Service
from pipelines.ports import HttpReply, ServiceProbe

_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Contract:
    """The checks that were made in turn; `broken` says what the last one found, None that all hold."""

    checks: tuple[str, ...]
    broken: str | None = None


def measure(world: Service, limits: NoLimits) -> Contract:
    """Run every contract check against the service, until one does not hold."""
    probe, url, golden, release = world.probe, world.url, world.golden, world.release
    checks: dict[str, Callable[[], str | None]] = {
        "health": lambda: _check_health(probe, url, release),
        "ready": lambda: _check_ready(probe, url, release),
        "golden rows": lambda: _check_golden(probe, url, golden, release),
        "batch": lambda: _check_batch(probe, url, golden),
        "refusals": lambda: _check_refusals(probe, url, golden.rows[0], world.nullable),
    }
    made: list[str] = []
    for name, check in checks.items():
        made.append(name)
        try:
            wrong = check()
        except DeployFailed as failure:
            wrong = failure.message
        if wrong:
            return Contract(tuple(made), wrong)
    return Contract(tuple(made))


def judge(contract: Contract, limits: NoLimits) -> list[GateResult]:
    """Pass when every check held; the first that did not is named."""
    if contract.broken:
        return [GateResult("smoke", Verdict.FAILED, f"FAIL: smoke: {contract.checks[-1]}: {contract.broken}")]
    return [GateResult("smoke", Verdict.PASSED, f"PASS smoke: {', '.join(contract.checks)}")]


def _check_health(probe: ServiceProbe, url: str, release: Release) -> str | None:
    wanted = {
        "stage": release.environment.stage,
        "status": "ok",
        "model": release.model,
        "version": release.version,
        "digest": release.bundle_digest,
    }
    answer = probe.get(f"{url}/health")
    return None if answer.status == 200 and answer.body == wanted else f"got {answer.status} {answer.body}"


def _check_ready(probe: ServiceProbe, url: str, release: Release) -> str | None:
    answer = probe.get(f"{url}/ready")
    good = answer.status == 200 and _fields(answer.body).get("digest") == release.bundle_digest
    return None if good else f"got {answer.status} {answer.body}"


def _check_golden(probe: ServiceProbe, url: str, golden: Golden, release: Release) -> str | None:
    for number, (row, expected) in enumerate(zip(golden.rows, golden.expected, strict=True)):
        headers = {**_JSON, "x-request-id": f"smoke-{number}"}
        answer = probe.post(f"{url}/predict", json.dumps(row).encode(), headers)
        if not _is_prediction(answer, expected, golden.tolerance):
            return f"row {number} expected {expected.as_json()}, got {answer.status} {answer.body}"
        if (answer.body.get("version"), answer.body.get("request_id")) != (release.version, f"smoke-{number}"):
            return f"row {number} came back as {answer.body}"
    return None


def _check_batch(probe: ServiceProbe, url: str, golden: Golden) -> str | None:
    answer = probe.post(f"{url}/predict/batch", json.dumps({"rows": golden.rows}).encode(), _JSON)
    predictions = _fields(answer.body).get("predictions")
    if answer.status != 200 or not isinstance(predictions, list):
        return f"got {answer.status} {answer.body}"
    pairs = zip(predictions, golden.expected, strict=False)
    same = all(_close(got, expected, golden.tolerance) for got, expected in pairs)
    return None if same and len(predictions) == len(golden.rows) else f"differs from the golden rows: {predictions}"


def _check_refusals(probe: ServiceProbe, url: str, row: dict[str, Any], nullable: frozenset[str]) -> str | None:
    field = next(iter(row))
    needed = next((name for name in row if name not in nullable), None)
    missing = {name: value for name, value in row.items() if name != needed}
    cases = [
        (b"not json", 400, None),
        *([(json.dumps(missing).encode(), 422, needed)] if needed else []),
        (json.dumps({**row, "slipway_unknown": 1}).encode(), 422, "slipway_unknown"),
        (json.dumps({**row, field: float("nan")}).encode(), (400, 422), None),
        (json.dumps({**row, field: {"nested": True}}).encode(), 422, field),
    ]
    for content, wanted, named in cases:
        answer = probe.post(f"{url}/predict", content, _JSON)
        statuses = wanted if isinstance(wanted, tuple) else (wanted,)
        fields = _fields(_fields(answer.body).get("error")).get("fields") or []
        if answer.status not in statuses or (named and named not in [_fields(entry).get("field") for entry in fields]):
            return f"{content[:60]!r} got {answer.status} {answer.body}"
    return None


def _is_prediction(answer: HttpReply, expected: AnyAnswer, tolerance: float) -> bool:
    return answer.status == 200 and _close(answer.body, expected, tolerance)


def _close(got: Any, expected: AnyAnswer, tolerance: float) -> bool:
    """Whether an answer, beside what else it names, is the expected one; a label counts with its type."""
    fields = _fields(got)
    try:
        answer = type(expected).model_validate({name: fields.get(name) for name in type(expected).model_fields})
    except ValidationError:
        return False
    of_type = type(answer.prediction) is type(expected.prediction) or isinstance(expected, ValueAnswer)
    return of_type and difference(answer, expected) <= tolerance


def _fields(answered: Any) -> dict[str, Any]:
    """Return a JSON object's fields; none for anything else, which a wrong service may well answer."""
    return answered if isinstance(answered, dict) else {}


SMOKE = Gate(
    name="smoke",
    description="The version, started in staging's trial slot, keeps its contract: health and readiness name it, the"
    " golden rows are answered rightly one by one and as a batch, and wrong requests are refused by field.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.SERVICE}),
    step="smoke and contract",
)
