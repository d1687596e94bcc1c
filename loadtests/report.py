"""Draw a run as one HTML page that needs nothing else; every text in it is escaped."""

import math
from collections.abc import Sequence

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from loadtests.plan import Plan
from loadtests.result import Result
from loadtests.samples import Look

WIDTH, HEIGHT, MARGIN = 640, 220, 40
MAX_POINTS = 1500
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Load run: {{ result.verdict }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #1b1f24 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d0d7de }
.passed { color: #116329 } .failed { color: #a40e26 } .inconclusive, .error { color: #7d4e00 }
svg { width: 100%; height: auto } code { overflow-wrap: anywhere }
</style></head><body>
<h1 class="{{ result.verdict }}">Load run: {{ result.verdict }}</h1>
<p>{{ plan.host }}{{ plan.path }}, version {{ plan.expected_version }}, {{ "%g" % plan.rate_per_s }} req/s
({{ plan.arrivals }} arrivals, seed {{ plan.seed }}),
{{ "%g" % plan.duration_s }} s a look, {{ result.looks }} of {{ plan.looks }} looks,
{{ "{:,}".format(result.n) }} requests, started {{ result.started_at }}.</p>
<table><thead><tr><th>check</th><th>verdict</th><th>observed</th><th>interval</th><th>limit</th>
<th>finding</th></tr></thead><tbody>
{% for check in result.checks %}<tr>
<td>{{ check.name }}{% if not check.judged %} (shown, not judged){% endif %}</td>
<td class="{{ check.verdict }}">{{ check.verdict }}</td><td>{{ number(check.observed) }}</td>
<td>{% if check.interval %}{{ number(check.interval[0]) }} to {{ number(check.interval[1]) }}{% endif %}</td>
<td>{{ number(check.limit) }}</td><td>{{ check.message }}</td></tr>
{% endfor %}</tbody></table>
{% if ecdf %}<h2>Share of requests answered within a latency</h2>{{ ecdf }}
<h2>Latency over time</h2>{{ over_time }}
<p>A request without a reply is drawn at the top. Latency is drawn upwards, logarithmic, in ms.</p>
{% endif %}
{% if result.raw %}<h2>Raw values</h2><ul>
{% for raw in result.raw %}<li>{{ raw.file }} <code>{{ raw.sha256 }}</code></li>
{% endfor %}</ul>{% endif %}
</body></html>
"""

Floats = NDArray[np.float64]


def render(plan: Plan, result: Result, looks: Sequence[Look]) -> str:
    """Return the page; a run without measured requests has no drawings."""
    drawings = {"ecdf": Markup(""), "over_time": Markup("")}
    if looks:
        latency_ms = np.concatenate([look.latency_ms for look in looks])
        elapsed_s = np.concatenate(
            [
                look.intended_s - look.window.measured_from_s + number * plan.duration_s
                for number, look in enumerate(looks)
            ]
        )
        drawings = {
            "ecdf": _ecdf(latency_ms, plan),
            "over_time": _over_time(elapsed_s, latency_ms, plan),
        }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE).render(plan=plan, result=result, number=_number, **drawings)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _scale_ms(latency_ms: Floats, plan: Plan) -> tuple[float, float]:
    """Return the logarithms of the lowest and highest latency drawn; no reply is drawn at the highest."""
    finite = latency_ms[np.isfinite(latency_ms) & (latency_ms > 0)]
    limits = [limit.limit_ms for limit in plan.limits]
    low = min([*limits, float(finite.min(initial=math.inf))])
    high = max([*limits, float(finite.max(initial=0))]) * 1.5
    return math.log10(low), math.log10(high)


def _place(latency_ms: Floats, scale: tuple[float, float]) -> Floats:
    """Return each latency's place on the logarithmic axis, from 0 to 1."""
    low, high = scale
    bounded = np.clip(latency_ms, 10**low, 10**high)
    placed: Floats = (np.log10(bounded) - low) / (high - low)
    return placed


def _ecdf(latency_ms: Floats, plan: Plan) -> Markup:
    """Draw latency upwards over the share, so that the limits of both drawings are level lines."""
    ordered = np.sort(latency_ms)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, MAX_POINTS).astype(int))
    scale = _scale_ms(latency_ms, plan)
    points = _points((ranks + 1) / len(ordered), _place(ordered[ranks], scale))
    line = Markup('<polyline fill="none" stroke="#0969da" stroke-width="1.5" points="{}"/>').format(
        " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    )
    return _drawing(line, plan, scale, ends=("0 %", "100 %"))


def _over_time(elapsed_s: Floats, latency_ms: Floats, plan: Plan) -> Markup:
    """Draw up to 1,500 requests: evenly chosen ones, and always the slowest."""
    half = MAX_POINTS // 2
    slowest = np.argsort(latency_ms)[-half:]
    even = np.linspace(0, len(latency_ms) - 1, half).astype(int)
    chosen = np.unique(np.concatenate((slowest, even)))
    scale = _scale_ms(latency_ms, plan)
    end_s = float(elapsed_s.max()) or 1.0
    points = _points(elapsed_s[chosen] / end_s, _place(latency_ms[chosen], scale))
    dots = Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="1.3" fill="#0969da" fill-opacity=".5"/>').format(x, y)
        for x, y in points
    )
    return _drawing(dots, plan, scale, ends=("0 s", f"{end_s:.0f} s"))


def _points(across: Floats, up: Floats) -> list[tuple[float, float]]:
    xs = MARGIN + across * (WIDTH - 2 * MARGIN)
    ys = HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _drawing(content: Markup, plan: Plan, scale: tuple[float, float], *, ends: tuple[str, str]) -> Markup:
    lines = Markup("")
    for limit in plan.limits:
        y = _points(np.zeros(1), _place(np.array([limit.limit_ms]), scale))[0][1]
        lines += Markup(
            '<line x1="{}" x2="{}" y1="{y}" y2="{y}" stroke="#a40e26" stroke-dasharray="4 3"/>'
            '<text x="{}" y="{}" font-size="10" fill="#a40e26" text-anchor="end">{}</text>'
        ).format(MARGIN, WIDTH - MARGIN, WIDTH - MARGIN, y - 3, f"{limit.name} <= {limit.limit_ms:g} ms", y=y)
    labels = Markup("").join(
        Markup('<text x="{}" y="{}" font-size="10" text-anchor="{}">{}</text>').format(x, y, anchor, text)
        for x, y, anchor, text in (
            (MARGIN, HEIGHT - MARGIN + 14, "start", ends[0]),
            (WIDTH - MARGIN, HEIGHT - MARGIN + 14, "end", ends[1]),
            (MARGIN - 4, HEIGHT - MARGIN, "end", f"{10 ** scale[0]:.3g}"),
            (MARGIN - 4, MARGIN, "end", f"{10 ** scale[1]:.3g}"),
        )
    )
    frame = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="#d0d7de"/>').format(
        MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img">{}{}{}{}</svg>').format(
        WIDTH, HEIGHT, frame, content, lines, labels
    )
