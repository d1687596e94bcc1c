"""A plan of a load run for tests, with wide limits, because a busy machine must not decide them."""

import json
from pathlib import Path
from typing import Any

LIMIT_MS = 2000


def write_plan(directory: Path, host: str, **changes: Any) -> Path:
    rows = directory / "rows.json"
    rows.write_text(json.dumps([{"tenure": 1}, {"tenure": 2}]))
    plan = {
        "host": host,
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
        "rows_file": str(rows),
        "limits": [
            {"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True},
            {"quantile": 0.99, "limit_ms": 2 * LIMIT_MS, "judged": False},
        ],
        "max_error_rate": 0.01,
        "max_stall_s": 1.0,
        "extension": False,
    }
    path = directory / "plan.json"
    path.write_text(json.dumps(plan | changes))
    return path
