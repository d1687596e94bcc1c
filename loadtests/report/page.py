"""The pages that a load run leaves: one file each, with nothing loaded from anywhere."""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Load run: {{ verdict }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem } p { margin: .4rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #d0d7de; vertical-align: top }
th { font-weight: 600; white-space: nowrap } .numbers td, .numbers th { text-align: right }
.passed { color: #116329 } .failed { color: #a40e26 } .inconclusive, .error { color: #7d4e00 }
svg { width: 100%; height: auto; font: 10.5px system-ui, sans-serif } code { overflow-wrap: anywhere }
</style></head><body>
<h1 class="{{ verdict }}">Load run: {{ verdict }}</h1>
"""

RUN = (
    _HEAD
    + """<p>{{ plan.host }}{{ plan.path }}{% if plan.via %}, path measured: {{ plan.via }}{% endif %},
version {{ plan.expected_version }}; {{ plan.shape.kind }} at {{ "%g" % plan.rate_per_s }} req/s
({{ plan.arrivals }} arrivals, seed {{ plan.seed }}, {{ mix }}, {{ plan.workers }} worker{{ "s" if plan.workers > 1 }}),
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
<p>Ringed is what each limit claims: the line must pass to the left of the ring.</p>
<h2>Latency over time</h2>{{ over_time }}
<p>A request without a reply is drawn at the top. Shaded is the longest time of each look without any reply.</p>
<h2>How many requests took how long</h2>{{ histogram }}{% endif %}
{% if ratios %}<h2>Comparison with the champion</h2>{{ ratios }}
<table class="numbers"><thead><tr><th>block</th><th>candidate p99 ms</th><th>champion p99 ms</th><th>ratio</th></tr>
</thead><tbody>{% for block in result.blocks %}<tr>
<td>{{ block.block }}</td><td>{{ number(block.candidate_p99_ms) }}</td>
<td>{{ number(block.champion_p99_ms) }}</td><td>{{ "%.3f" % block.ratio }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
{% if windows %}<h2>Windows</h2>
<table class="numbers"><thead><tr><th>look</th><th>from s</th><th>to s</th><th>req/s</th><th>requests</th>
<th>errors</th><th>slower than {{ "%g" % plan.strictest_ms }} ms</th><th>p50 ms</th><th>p99 ms</th><th>slowest ms</th>
</tr></thead><tbody>{% for row in windows %}<tr>
<td>{{ row.look }}</td><td>{{ "%.4g" % row.from_s }}</td><td>{{ "%.4g" % row.until_s }}</td>
<td>{{ "%.0f" % row.rate_per_s }}</td><td>{{ "{:,}".format(row.n) }}</td><td>{{ row.errors }}</td>
<td>{{ row.slow }}</td><td>{{ number(row.p50_ms) }}</td><td>{{ number(row.p99_ms) }}</td>
<td>{{ number(row.slowest_ms) }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
{% if result.raw %}<h2>Raw values</h2><ul>
{% for raw in result.raw %}<li>{{ raw.file }} <code>{{ raw.sha256 }}</code></li>
{% endfor %}</ul>{% endif %}
</body></html>
"""
)

CAPACITY = (
    _HEAD
    + """<p>The highest rate at which {{ plan.host }}{{ plan.path }}, version {{ plan.expected_version }}, meets its SLO
{%- if plan.via %}; path measured: {{ plan.via }}{% endif %}. Started {{ started_at }}.</p>
<p><strong>{{ capacity.message }}</strong></p>
<table><thead><tr><th>try</th><th>req/s</th><th>verdict</th><th>finding</th></tr></thead><tbody>
{% for found in capacity.tries %}<tr><td><a href="try-{{ loop.index }}/report.html">{{ loop.index }}</a></td>
<td>{{ "{:,g}".format(found.rate_per_s) }}</td><td class="{{ found.verdict }}">{{ found.verdict }}</td>
<td>{{ found.message }}</td></tr>
{% endfor %}</tbody></table>
</body></html>
"""
)
