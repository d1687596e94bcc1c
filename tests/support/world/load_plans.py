"""A plan of a load run for tests, with wide limits, because a busy machine must not decide them.

The rules by which a run is sound scale with the limits.
"""

import json
from pathlib import Path
from typing import Any

LIMIT_MS = 2000


P95 = {"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True}
PLAN: dict[str, Any] = {
    "path": "/predict",
    "rate_per_s": 100,
    "warmup_s": 0.5,
    "duration_s": 10,
    "arrivals": "poisson",
    "seed": 1,
    "timeout_s": 10,
    "max_in_flight": 400,
    "workers": 1,
    "expected_version": "6",
    "limits": [P95, {"quantile": 0.99, "limit_ms": 2 * LIMIT_MS, "judged": False}],
    "max_error_rate": 0.01,
    "max_stall_s": 1.0,
    "extension": False,
}
ROWS = [{"tenure": 1}, {"tenure": 2}]


def write_plan(directory: Path, host: str, **changes: Any) -> Path:
    rows = directory / "rows.json"
    rows.write_text(json.dumps(ROWS))
    path = directory / "plan.json"
    path.write_text(json.dumps({**PLAN, "host": host, "rows_file": str(rows), **changes}))
    return path
