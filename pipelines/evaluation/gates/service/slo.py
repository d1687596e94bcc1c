"""Gate: the latency SLO of a route, measured by an open-model load run and judged on raw latencies.

The load run judges itself by statistics that its own page explains; this gate states the plan from the
policy and carries the checks into the report.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pipelines.domain.policy import PREDICT, Policy, Profile, Slo
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed, Undecided
from pipelines.packaging.snapshot import Snapshot
from pipelines.ports import LoadRunner, ServiceProbe

SEED = 1
MAX_ROWS = 1000
FIRST_REQUEST = "first_request"


@dataclass(frozen=True)
class Measured:
    """What a load run is for: where the release is reached, and the champion that it is compared with, if any.

    `first_request_ms` is how long the first request after the deploy took, infinite where it was not answered; None
    where there is none to speak of.
    """

    url: str
    version: str
    champion_url: str | None = None
    champion_version: str | None = None
    first_request_ms: float | None = None


def measure_slo(
    loads: LoadRunner, policy: Policy, measured: Measured, *, snapshot: Snapshot, workdir: Path
) -> list[GateResult]:
    """Run the policy's load for each of its routes, until one says no; return a result a check, `slo.<check>`.

    The checks of a further route carry its last part, as in `slo.batch.p99`. Each run leaves `report.html` and
    `result.json` in a directory of its name in `workdir`. A first request that nobody answered is a no already, where
    the policy limits it.
    """
    demo = policy.profile is Profile.DEMO
    if policy.slo.first_request_ms is not None and measured.first_request_ms == math.inf:
        return [_unanswered(policy.slo.first_request_ms, demo=demo)]
    rows: list[Any] = snapshot.features.head(MAX_ROWS).to_dict(orient="records")
    results: list[GateResult] = []
    for slo in policy.slo.each_route():
        name = "slo" if slo.route == policy.slo.route else f"slo.{slo.route.rpartition('/')[2]}"
        place = workdir / name
        place.mkdir(parents=True, exist_ok=True)
        try:
            run = loads.run(load_plan(slo, measured), rows, place)
        except Undecided as error:
            return [*results, GateResult(f"{name}.run", Verdict.ERROR, f"ERROR: {name}: {error.message}")]
        (place / "report.html").write_bytes(run.report_html)
        (place / "result.json").write_text(json.dumps(run.result, indent=1))
        results += results_of(run.result, name=name, demo=demo)
        if any(result.verdict is Verdict.FAILED for result in results):
            break
    return results


def time_first_request(probe: ServiceProbe, measured_url: str, snapshot: Snapshot, *, timeout_s: float) -> float:
    """Send one prediction and return its milliseconds; infinite where it was not answered within `timeout_s`."""
    row = snapshot.features.head(1).to_json(orient="records", lines=True).strip()
    json_type = {"Content-Type": "application/json"}
    begun = time.perf_counter()
    try:
        answer = probe.post(f"{measured_url}{PREDICT}", row.encode(), json_type, timeout_s=timeout_s)
    except DeployFailed:
        return math.inf
    return (time.perf_counter() - begun) * 1000 if answer.status == HTTPStatus.OK else math.inf


def load_plan(slo: Slo, measured: Measured) -> dict[str, Any]:
    """Return the plan of a load run of one route's SLO (the format of loadtests/plan/plan.py)."""
    plan: dict[str, Any] = {
        "host": measured.url,
        "path": slo.route,
        "rate_per_s": slo.rate_per_s,
        "warmup_s": slo.warmup_s,
        "duration_s": slo.duration_s,
        "arrivals": str(slo.arrivals),
        "seed": SEED,
        "timeout_s": slo.timeout_s,
        "max_in_flight": math.ceil(slo.rate_per_s * slo.timeout_s),
        "workers": slo.workers or 1,
        "expected_version": measured.version,
        "limits": [{"quantile": q.quantile, "limit_ms": q.limit_ms, "judged": q.judged} for q in slo.quantiles],
        "max_error_rate": slo.max_error_rate,
        "max_stall_s": slo.max_stall_s,
        "extension": slo.extension,
    }
    if slo.first_request_ms is not None:
        plan["first_request_ms"] = slo.first_request_ms
        plan |= {} if measured.first_request_ms is None else {"first_request_took_ms": measured.first_request_ms}
    if slo.comparison and measured.champion_url:
        blocks = asdict(slo.comparison)
        plan["comparison"] = {"host": measured.champion_url, "expected_version": measured.champion_version, **blocks}
    return plan


def results_of(result: dict[str, Any], *, name: str = "slo", demo: bool) -> list[GateResult]:
    """Return the judged and shown checks of a load run's result, each with the path measured.

    A shown one never stops a version, nor does a no in a run that itself is none: its validity comes first.
    """
    results = []
    for check in result["checks"]:
        verdict = Verdict(check["verdict"]) if check["judged"] else Verdict.NOT_APPLICABLE
        shown = "" if check["judged"] else " (shown, not judged)"
        # Whoever deployed has sent the first request to the replica itself.
        path = "direct" if check["name"] == FIRST_REQUEST else result["via"]
        interval = check["interval"]
        results.append(
            GateResult(
                f"{name}.{check['name']}",
                verdict,
                check["message"] + shown + _mark(path, demo=demo),
                observed=check["observed"],
                interval=(interval[0], interval[1]) if interval else None,
                limit=check["limit"],
            )
        )
    if not results:
        return [GateResult(f"{name}.run", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {name}: nothing was measured")]
    if result["verdict"] != Verdict.FAILED:
        return without_no(results, f"the run is {result['verdict']}")
    return results


def without_no(results: Sequence[GateResult], why: str) -> list[GateResult]:
    """Return the results with every no inconclusive, because of the run that it was measured in."""
    return [
        replace(result, verdict=Verdict.INCONCLUSIVE, message=f"{result.message} (does not count: {why})")
        if result.verdict is Verdict.FAILED
        else result
        for result in results
    ]


def _unanswered(limit_ms: float, *, demo: bool) -> GateResult:
    message = f"FAIL: {FIRST_REQUEST}=inf ms > {limit_ms:g} ms (the first one after the deploy was not answered)"
    name = f"slo.{FIRST_REQUEST}"
    return GateResult(name, Verdict.FAILED, message + _mark("direct", demo=demo), math.inf, limit=limit_ms)


def _mark(path: str, *, demo: bool) -> str:
    return f" [path: {path}]" + " [demo evidence]" * demo
