"""Gate: the latency SLO of a route, measured by an open-model load run and judged on raw latencies.

The load run judges itself by statistics that its own page explains; this gate states the plan from the
policy and carries the checks into the report.
"""

from pathlib import Path
from typing import Any

from pipelines.domain.policy import Policy
from pipelines.domain.release import Release
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import Undecided
from pipelines.ports import LoadRunner
from pipelines.snapshot import Snapshot

SEED = 1
MAX_ROWS = 1000


def measure_slo(
    loads: LoadRunner, policy: Policy, *, url: str, release: Release, snapshot: Snapshot, workdir: Path
) -> list[GateResult]:
    """Run the policy's load against `url` and return one result a check, named `slo.<check>`."""
    rows: list[Any] = snapshot.features.head(MAX_ROWS).to_dict(orient="records")
    try:
        run = loads.run(load_plan(policy, url=url, version=release.version), rows, workdir)
    except Undecided as error:
        return [GateResult("slo.run", Verdict.ERROR, f"ERROR: slo: {error.message}")]
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "report.html").write_bytes(run.report_html)
    return results_of(run.result, demo=policy.profile == "demo")


def load_plan(policy: Policy, *, url: str, version: str) -> dict[str, Any]:
    """Return the plan of a load run of `policy` against `url`, which must answer as `version`."""
    slo = policy.slo
    return {
        "host": url,
        "path": slo.route,
        "rate_per_s": slo.rate_per_s,
        "warmup_s": slo.warmup_s,
        "duration_s": slo.duration_s,
        "arrivals": str(slo.arrivals),
        "seed": SEED,
        "timeout_s": slo.timeout_s,
        "max_in_flight": int(slo.rate_per_s * slo.timeout_s),
        "workers": 1,
        "expected_version": version,
        "limits": [{"quantile": q.quantile, "limit_ms": q.limit_ms, "judged": q.judged} for q in slo.quantiles],
        "max_error_rate": slo.max_error_rate,
        "max_stall_s": slo.max_stall_s,
        "extension": slo.extension,
    }


def results_of(result: dict[str, Any], *, demo: bool) -> list[GateResult]:
    """Return the judged and shown checks of a load run's result; a shown one never stops a version."""
    mark = " [demo evidence]" if demo else ""
    results = []
    for check in result["checks"]:
        verdict = Verdict(check["verdict"]) if check["judged"] else Verdict.NOT_APPLICABLE
        shown = "" if check["judged"] else " (shown, not judged)"
        interval = check["interval"]
        results.append(
            GateResult(
                f"slo.{check['name']}",
                verdict,
                check["message"] + shown + mark,
                observed=check["observed"],
                interval=(interval[0], interval[1]) if interval else None,
                limit=check["limit"],
            )
        )
    if not results:
        return [GateResult("slo.run", Verdict.INCONCLUSIVE, "INCONCLUSIVE: slo: nothing was measured")]
    return results
