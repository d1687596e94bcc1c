"""Write down what a run found, so that it can be read by a program and judged again from the raw files."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtests.judge import validity
from loadtests.judge.slo import Judgement, median_ms
from loadtests.judge.verdict import Check, Verdict
from loadtests.plan.plan import Plan, Via
from loadtests.plan.shapes import STEADY, Shape
from loadtests.runner.blocks import Ratio
from loadtests.samples import Look, sha256_of


@dataclass(frozen=True)
class Result:
    """The content of result.json; what was not measured is null, and so is an infinite observation."""

    verdict: Verdict
    checks: tuple[Check, ...]
    rate_per_s: float
    duration_s: float
    seed: int
    alpha: float
    started_at: str
    n: int = 0
    looks: int = 0
    deff: float | None = None
    p50_ms: float | None = None
    p50_interval_ms: tuple[float, float] | None = None
    achieved_rate_per_s: float | None = None
    generator_cpu: float | None = None
    send_lag_p99_ms: float | None = None
    served_versions: dict[str, int] = field(default_factory=dict)
    raw: tuple[dict[str, str], ...] = ()
    via: Via | None = None
    shape: Shape = STEADY
    blocks: tuple[Ratio, ...] = ()


def without_judgement(plan: Plan, started_at: str, check: Check) -> Result:
    """Make the result of a run that one check ended early."""
    return Result(
        verdict=check.verdict,
        checks=(check,),
        rate_per_s=plan.rate_per_s,
        duration_s=plan.duration_s,
        seed=plan.seed,
        alpha=plan.alpha,
        started_at=started_at,
        via=plan.via,
        shape=plan.shape,
    )


def of_judgement(
    plan: Plan, started_at: str, *, looks: Sequence[Look], judgement: Judgement, raws: Sequence[Path]
) -> Result:
    """Make the result of a judged run with at least one request."""
    middle_ms, middle_interval_ms = median_ms(plan, looks)
    return Result(
        verdict=judgement.verdict,
        checks=judgement.checks,
        rate_per_s=plan.rate_per_s,
        duration_s=plan.duration_s,
        seed=plan.seed,
        alpha=plan.alpha,
        started_at=started_at,
        via=plan.via,
        shape=plan.shape,
        n=sum(len(look.latency_ms) for look in looks),
        looks=len(looks),
        deff=judgement.deff,
        p50_ms=middle_ms,
        p50_interval_ms=middle_interval_ms,
        achieved_rate_per_s=validity.achieved_sends(looks) / sum(look.duration_s for look in looks),
        generator_cpu=validity.generator_cpu(looks),
        send_lag_p99_ms=validity.send_lag_p99_ms(looks),
        served_versions=validity.served_versions(looks),
        raw=tuple({"file": raw.name, "sha256": sha256_of(raw)} for raw in raws),
    )


def as_json(result: Result) -> str:
    """Write the result as strict JSON, which knows no infinity."""
    return strict_json(asdict(result))


def strict_json(body: dict[str, Any]) -> str:
    """Write JSON with null for what is not finite."""
    return json.dumps(_strict(body), indent=2, allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
