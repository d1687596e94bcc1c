"""Cut a run into windows for people: what happened when, and at which rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loadtests.judge.quantiles import observed_quantile, window_length_s
from loadtests.plan.plan import Plan
from loadtests.plan.shapes import ShapeKind
from loadtests.samples import Look

MAX_WINDOWS = 60


@dataclass(frozen=True)
class WindowRow:
    """A part of a look; quantiles are those of the plan's path, None where nothing was sent there."""

    look: int
    from_s: float
    until_s: float
    rate_per_s: float
    n: int
    errors: int
    slow: int
    p50_ms: float | None
    p99_ms: float | None
    slowest_ms: float | None


def windows_of(plan: Plan, looks: Sequence[Look]) -> list[WindowRow]:
    """Return the windows of all looks, at most about 60; a staircase is cut at its steps."""
    return [row for number, look in enumerate(looks, start=1) for row in _rows(plan, look, number, len(looks))]


def _rows(plan: Plan, look: Look, number: int, looks: int) -> Iterator[WindowRow]:
    edges_s = _edges_s(plan, look, looks)
    every = np.digitize(look.intended_s - look.window.measured_from_s, edges_s[1:-1])
    scored = look.part(plan.path)
    inside = np.digitize(scored.intended_s - look.window.measured_from_s, edges_s[1:-1])
    for index, (begin_s, end_s) in enumerate(pairwise(edges_s)):
        latency_ms = scored.latency_ms[inside == index]
        n = int((every == index).sum())
        yield WindowRow(
            look=number,
            from_s=begin_s,
            until_s=end_s,
            rate_per_s=n / (end_s - begin_s),
            n=n,
            errors=int(look.failed[every == index].sum()),
            slow=int((latency_ms > plan.strictest_ms).sum()),
            p50_ms=observed_quantile(latency_ms, 0.5) if len(latency_ms) else None,
            p99_ms=observed_quantile(latency_ms, 0.99) if len(latency_ms) else None,
            slowest_ms=float(latency_ms.max()) if len(latency_ms) else None,
        )


def _edges_s(plan: Plan, look: Look, looks: int) -> list[float]:
    if plan.shape.kind is ShapeKind.STEP:
        return [0.0, *(stage.until_s for stage in plan.shape.stages(look.duration_s))]
    length_s = window_length_s(look.duration_s * looks)
    count = max(1, min(MAX_WINDOWS // looks, int(look.duration_s / length_s + 1e-9)))
    return [float(edge) for edge in np.linspace(0, look.duration_s, count + 1)]
