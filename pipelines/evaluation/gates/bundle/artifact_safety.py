"""Gate: the model's graph does nothing but compute, in bounded time and memory."""

from dataclasses import dataclass

from pydantic import Field

from pipelines.domain.bundle import Feature
from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate
from pipelines.evaluation.gates.offline.world import Offline


class ArtifactSafetyLimits(Section):
    """What answering a golden row may take: far more than a model that is served should."""

    row_ms: float = Field(
        1000, gt=0, le=60_000, description="milliseconds of a processor for one golden row, asked alone"
    )
    memory_mb: int = Field(
        1024,
        ge=16,
        le=65_536,
        description="memory to open the model and answer a row, beside what the job has by then;"
        " `evaluation.job_memory_mb` bounds both together",
    )


@dataclass(frozen=True)
class Reading:
    """How reading and trying the model ended.

    `refusal` says why it may not be run, None that it may; `longest_ms` is the most that a golden row took of a
    processor, None where none was asked.
    """

    refusal: str | None
    longest_ms: float | None = None


def measure(world: Offline, limits: ArtifactSafetyLimits) -> Reading:
    """Read the model, which refuses all but bounded standard operators in one file, and try its golden rows."""
    import pandas as pd

    from pipelines.packaging.onnx_bounds import try_rows

    candidate = world.candidate
    description = candidate.description
    try:
        longest_s = try_rows(
            candidate.path / "model.onnx",
            tuple(map(Feature.read, description.features)),
            description.onnx.inputs,
            pd.DataFrame(list(description.golden.rows)),
            row_s=limits.row_ms / 1000,
            memory_mb=limits.memory_mb,
        )
        _ = candidate.model
    except NotServable as refusal:
        return Reading(refusal.message)
    return Reading(None, longest_s * 1000)


def judge(reading: Reading, limits: ArtifactSafetyLimits) -> list[GateResult]:
    """Pass when nothing was refused, and no row took longer than the limit."""
    longest, limit = reading.longest_ms, limits.row_ms
    if reading.refusal is not None:
        verdict, message = Verdict.FAILED, f"FAIL: artifact_safety: {reading.refusal}"
    elif longest is not None and longest > limit:
        verdict, message = Verdict.FAILED, f"FAIL: artifact_safety: a golden row took {longest:.0f} ms > {limit:g} ms"
    else:
        verdict = Verdict.PASSED
        message = f"PASS artifact_safety: standard operators, one file, golden rows within {limit:g} ms"
    return [GateResult("artifact_safety", verdict, message, observed=longest, limit=limit)]


ARTIFACT_SAFETY = Gate(
    name="artifact_safety",
    description="The ONNX graph uses standard operators only, reads no file but its own, and no value of a request"
    " decides how long it goes on or how large it gets: it has no loop, no scan in another one, and no tensor whose"
    " size follows from such a value. What converters of scikit-learn and of boosted trees write has none of these. Its"
    " golden rows, asked one by one, are answered in the time and memory that the policy gives; work on constants alone"
    " counts, too. Nothing else of a model is run before this and `digest` have said yes.",
    limits=ArtifactSafetyLimits,
    measure=measure,
    judge=judge,
    advice="export it with standard, bounded operators; where the model is only large, raise"
    " gates.artifact_safety.row_ms or memory_mb of the policy",
)
