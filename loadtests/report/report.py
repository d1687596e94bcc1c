"""Draw a run as one HTML page that needs nothing else; every text in it is escaped."""

import math
from collections.abc import Sequence

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from loadtests.judge import comparison
from loadtests.judge.stall import longest_stall
from loadtests.plan.plan import Plan
from loadtests.report.charts import BAD, INK, Chart, Scale, linear, logarithmic
from loadtests.report.page import CAPACITY, RUN
from loadtests.report.windows import windows_of
from loadtests.runner.capacity import Capacity
from loadtests.runner.curves import drawn_ranks
from loadtests.runner.result import Result
from loadtests.samples import Look

MAX_POINTS = 1500
BINS = 60
# Shares are drawn by how little is left, so that the tail can be read.
SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
LEAST_LEFT = 0.0002

Floats = NDArray[np.float64]


def render(plan: Plan, result: Result, looks: Sequence[Look]) -> str:
    """Return the page; a run without measured requests has no drawings."""
    drawings = {name: Markup("") for name in ("ecdf", "over_time", "histogram", "ratios")}
    scored = [look.part(plan.path) for look in looks]
    if any(len(look.latency_ms) for look in scored):
        latency_ms = np.concatenate([look.latency_ms for look in scored])
        across = _latency_scale(latency_ms, plan)
        drawings["ecdf"] = _ecdf(latency_ms, plan, across)
        drawings["over_time"] = _over_time(scored, plan, across)
        drawings["histogram"] = _histogram(latency_ms, plan, across)
    limit = next((check.limit for check in result.checks if check.name == comparison.NAME), None)
    if result.blocks and limit:
        drawings["ratios"] = _ratios(result, limit)
    mix = ", ".join(f"{share:.0%} {persona}" for persona, share in plan.shares)
    values = {"plan": plan, "result": result, "mix": mix, "windows": windows_of(plan, looks) if looks else []}
    return _fill(RUN, verdict=result.verdict, number=_number, **values, **drawings)


def render_capacity(plan: Plan, capacity: Capacity, started_at: str) -> str:
    """Return the page of a search for the highest rate, which leads to those of its runs."""
    return _fill(CAPACITY, verdict=capacity.verdict, plan=plan, capacity=capacity, started_at=started_at)


def _fill(page: str, **values: object) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(page).render(**values)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def _latency_scale(latency_ms: Floats, plan: Plan) -> Scale:
    """Return the axis of latency, which has room for every limit; no reply is drawn at its end."""
    finite = latency_ms[np.isfinite(latency_ms) & (latency_ms > 0)]
    limits = [limit.limit_ms for limit in plan.limits]
    low = min([*limits, float(finite.min(initial=math.inf))])
    high = max([*limits, float(finite.max(initial=0))]) * 1.5
    return logarithmic(low / 1.2, high, "ms")


def _ecdf(latency_ms: Floats, plan: Plan, across: Scale) -> Markup:
    def by_what_is_left(shares: Floats) -> Floats:
        placed: Floats = -np.log10(1 - shares)
        return placed

    ticks = [(share, f"{share * 100:g} %") for share in SHARES]
    chart = Chart(across, Scale(0.0, 1 - LEAST_LEFT, ticks, "share of requests", by_what_is_left))
    ordered = np.sort(latency_ms)
    n = len(ordered)
    ranks = drawn_ranks(n, MAX_POINTS)
    answered = ranks[np.isfinite(ordered[ranks])]
    chart.line(ordered[answered], (answered + 1) / n)
    for row, limit in enumerate(plan.limits):
        chart.upright(limit.limit_ms, f"{limit.name} <= {limit.limit_ms:g} ms", row=row, until=limit.quantile)
    return chart.svg()


def _over_time(looks: Sequence[Look], plan: Plan, up: Scale) -> Markup:
    """Draw up to 1,500 requests: evenly chosen ones, and always the slowest; looks stand side by side."""
    begins_s = [number * plan.duration_s for number in range(len(looks))]
    elapsed_s = np.concatenate(
        [look.intended_s - look.window.measured_from_s + begin_s for look, begin_s in zip(looks, begins_s, strict=True)]
    )
    latency_ms = np.concatenate([look.latency_ms for look in looks])
    chart = Chart(linear(0.0, len(looks) * plan.duration_s, "s"), up)
    for look, begin_s in zip(looks, begins_s, strict=True):
        stall = longest_stall([look])
        since_s = begin_s + max(0.0, stall.after_s)
        colour = BAD if stall.length_s > plan.max_stall_s else INK
        chart.span(since_s, since_s + stall.length_s, f"no reply for {stall.length_s:.2f} s", colour=colour)
    half = MAX_POINTS // 2
    even = np.linspace(0, len(latency_ms) - 1, half).astype(int)
    chosen = np.unique(np.concatenate((np.argsort(latency_ms)[-half:], even)))
    chart.dots(elapsed_s[chosen], latency_ms[chosen], radius=1.3)
    for limit in plan.limits:
        chart.level(limit.limit_ms, f"{limit.name} <= {limit.limit_ms:g} ms")
    return chart.svg()


def _histogram(latency_ms: Floats, plan: Plan, across: Scale) -> Markup:
    """Draw counts by latency, both logarithmic: a hundredth of the requests must stay visible."""
    edges = np.geomspace(across.low, across.high, BINS + 1)
    counts, _ = np.histogram(np.clip(latency_ms, across.low, across.high), edges)
    most = max(2.0, counts.max() * 1.3)
    ticks = [(10.0**decade, f"{10**decade:,}") for decade in range(math.floor(math.log10(most)) + 1)]
    chart = Chart(across, Scale(0.5, most, ticks, "requests", np.log10))
    chart.bars(edges, counts.astype(float))
    for row, limit in enumerate(plan.limits):
        chart.upright(limit.limit_ms, f"{limit.name} <= {limit.limit_ms:g} ms", row=row)
    return chart.svg()


def _ratios(result: Result, limit: float) -> Markup:
    """Draw the ratio of the arms' p99 in each block, between the same and what the typical block was judged by."""
    blocks = np.array([float(block.block) for block in result.blocks])
    ratios = np.array([block.ratio for block in result.blocks])
    finite = ratios[np.isfinite(ratios)]
    low, high = min(0.8, finite.min(initial=1) * 0.95), max(1.25, limit * 1.05, finite.max(initial=1) * 1.05)
    up = linear(float(low), float(high), "p99 of the candidate / p99 of the champion")
    chart = Chart(linear(0.5, float(blocks[-1]) + 0.5, "block"), up)
    chart.level(1.0, "the same", colour=INK)
    chart.level(limit, f"limit {limit:g}")
    chart.dots(blocks, ratios, radius=3)
    return chart.svg()
