"""Gate: the model's graph does nothing but compute."""

from dataclasses import dataclass

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Reading:
    """How reading the model ended: `refusal` says why it may not be run, None that it may."""

    refusal: str | None


def measure(world: Offline, limits: NoLimits) -> Reading:
    """Read and open the model, which refuses all but standard operators in one file."""
    try:
        _ = world.candidate.model
    except NotServable as refusal:
        return Reading(refusal.message)
    return Reading(None)


def judge(reading: Reading, limits: NoLimits) -> list[GateResult]:
    """Pass when nothing was refused."""
    if reading.refusal is not None:
        return [GateResult("artifact_safety", Verdict.FAILED, f"FAIL: artifact_safety: {reading.refusal}")]
    return [GateResult("artifact_safety", Verdict.PASSED, "PASS artifact_safety: standard operators, one file")]


ARTIFACT_SAFETY = Gate(
    name="artifact_safety",
    description="The ONNX graph uses standard operators only, and reads no file but its own. Nothing of a model is run"
    " before this and `digest` have said yes.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
)
