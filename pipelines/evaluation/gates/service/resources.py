"""Gate: the service takes no more memory than it may, and is ready soon after it was started."""

import math
from dataclasses import dataclass

from pydantic import Field

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.service.runtime import ask_runtime
from pipelines.evaluation.gates.service.world import Service

_MIB = 1024 * 1024


class ResourcesLimits(Limits):
    """What a replica of the version may take."""

    memory_mb: float = Field(512, gt=0, le=65_536, description="the most MiB that its process ever used")
    start_s: float = Field(60, gt=0, le=3600, description="seconds from the order to start it until it was ready")


@dataclass(frozen=True)
class Taken:
    """What a replica took: its peak in MiB and its start in seconds; `why` says why one is not known."""

    memory_mb: float | None
    start_s: float | None
    why: str = ""


def measure(world: Service, limits: ResourcesLimits) -> Taken:
    """Ask the replica for the most memory that it used, which after the load run is that under load."""
    try:
        runtime = ask_runtime(world.probe, world.url)
    except DeployFailed as failure:
        return Taken(None, world.start_s, failure.message)
    if runtime is None:
        return Taken(None, world.start_s, "the replica does not tell")
    return Taken(runtime.peak_memory_bytes / _MIB, world.start_s)


def judge(taken: Taken, limits: ResourcesLimits) -> list[GateResult]:
    """Judge each number against its limit; one that is not known is an error."""
    return [
        _judged("resources.memory", taken.memory_mb, limits.memory_mb, "MiB", taken.why),
        _judged("resources.start", taken.start_s, limits.start_s, "s", "how long it took was not measured"),
    ]


def _judged(name: str, observed: float | None, limit: float, unit: str, why: str) -> GateResult:
    if observed is None or not math.isfinite(observed):
        return GateResult(name, Verdict.ERROR, f"ERROR: {name}: {why or 'no finite number'}", limit=limit)
    if observed <= limit:
        message = f"PASS {name}={observed:.1f} {unit} <= {limit:g} {unit}"
        return GateResult(name, Verdict.PASSED, message, observed=observed, limit=limit)
    message = f"FAIL: {name}={observed:.4f} > {limit:g} ({unit})"
    return GateResult(name, Verdict.FAILED, message, observed=observed, limit=limit)


RESOURCES = Gate(
    name="resources",
    description="A replica of the version used no more memory in staging than the limit, the load run included, and was"
    " ready in time after it was ordered to start. The memory is the peak of the resident set of the process that"
    " answers (getrusage); the start is timed by who ordered it, with the fetching of the image where there is one.",
    limits=ResourcesLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.SERVICE}),
    overridable=True,
    step="memory and start",
    advice="register a smaller model, or raise gates.resources of the policy",
)
