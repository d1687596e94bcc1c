"""The plan of a load run, stated from the SLO of one route (the format of loadtests/plan/plan.py)."""

import math
from typing import Any

from pipelines.evaluation.gates.service.slo_limits import SloLimits
from pipelines.evaluation.gates.service.world import Beside

SEED = 1


def load_plan(
    slo: SloLimits, url: str, version: str, *, champion: Beside | None = None, first_request_ms: float | None = None
) -> dict[str, Any]:
    """Return the plan that loads `url`, where `version` has to answer; with the champion in turn, if there is one.

    `first_request_ms` is what the first request after the deploy took, None where there is none to speak of.
    """
    plan: dict[str, Any] = {
        "host": url,
        "path": slo.route,
        "rate_per_s": slo.rate_per_s,
        "warmup_s": slo.warmup_s,
        "duration_s": slo.duration_s,
        "arrivals": str(slo.arrivals),
        "seed": SEED,
        "timeout_s": slo.timeout_s,
        "max_in_flight": math.ceil(slo.rate_per_s * slo.timeout_s),
        "workers": slo.workers or 1,
        "expected_version": version,
        "limits": [limit.as_json() for limit in slo.quantiles],
        "max_error_rate": slo.max_error_rate,
        "max_stall_s": slo.max_stall_s,
        "extension": slo.extension,
    }
    if slo.first_request_ms is not None:
        plan["first_request_ms"] = slo.first_request_ms
        plan |= {} if first_request_ms is None else {"first_request_took_ms": first_request_ms}
    if slo.comparison and champion:
        blocks = slo.comparison.as_json()
        plan["comparison"] = {"host": champion.url, "expected_version": champion.version, **blocks}
    return plan
