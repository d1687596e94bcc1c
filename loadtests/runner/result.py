"""The result of a load run: the one definition of the format of result.json, and how it is filled.

docs/reference/load-result.schema.json describes it for whoever reads results without importing this package.
"""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from loadtests.judge import validity
from loadtests.judge.arm import counted
from loadtests.judge.comparison import Block
from loadtests.judge.slo import Judgement, median_ms
from loadtests.judge.verdict import Check, Measured, Verdict
from loadtests.plan.plan import Plan, Via
from loadtests.plan.shapes import STEADY, Shape
from loadtests.runner.blocks import Ratio, ratios_of
from loadtests.runner.curves import Curve, Measuring, curve_of
from loadtests.samples import Look, sha256_of

# JSON knows no infinity: what took for ever is null.
WRITTEN = ConfigDict(
    extra="forbid", strict=True, ser_json_inf_nan="null", json_schema_serialization_defaults_required=True
)


@dataclass(frozen=True, config=WRITTEN)
class RawFile:
    """A file of raw values beside the result, and its digest as `sha256:<hex>`."""

    file: str
    sha256: str


@dataclass(frozen=True, config=WRITTEN)
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
    p50_ms: Measured | None = None
    p50_interval_ms: tuple[Measured, Measured] | None = None
    achieved_rate_per_s: float | None = None
    generator_cpu: float | None = None
    send_lag_p99_ms: float | None = None
    served_versions: dict[str, int] = field(default_factory=dict)
    raw: tuple[RawFile, ...] = ()
    via: Via | None = None
    shape: Shape = STEADY
    blocks: tuple[Ratio, ...] = ()
    curves: tuple[Curve, ...] = ()


RESULT = TypeAdapter(Result)


def describe_result() -> dict[str, Any]:
    """Return the JSON Schema of the result.json of a run."""
    return RESULT.json_schema(mode="serialization")


def as_json(result: Result) -> str:
    """Write the content of result.json."""
    return RESULT.dump_json(result, indent=2).decode() + "\n"


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
    plan: Plan,
    started_at: str,
    *,
    looks: Sequence[Look],
    blocks: Sequence[Block] = (),
    judgement: Judgement,
    raws: Sequence[Path],
) -> Result:
    """Make the result of a judged run with at least one request; without blocks nothing was compared."""
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
        raw=tuple(RawFile(raw.name, sha256_of(raw)) for raw in raws),
        blocks=ratios_of(blocks, plan.path),
        curves=_curves(plan.path, looks, blocks),
    )


def _curves(route: str, looks: Sequence[Look], blocks: Sequence[Block]) -> tuple[Curve, ...]:
    measured = {
        Measuring.ALONE: looks,
        Measuring.CANDIDATE_IN_TURN: [block.candidate for block in blocks],
        Measuring.CHAMPION_IN_TURN: [block.champion for block in blocks],
    }
    return tuple(
        curve_of(of, np.concatenate([counted(look.part(route)) for look in seen]))
        for of, seen in measured.items()
        if seen
    )
