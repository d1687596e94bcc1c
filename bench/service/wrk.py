"""Drives a port with wrk, as many requests as it takes."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import SlipwayError, UsageError

SCRIPT = Path(__file__).with_name("rows.lua")
_SPARE_S = 20.0


@dataclass(frozen=True)
class WrkRun:
    """One run: how much was answered, and the latencies that a closed loop of connections sees."""

    requests: int
    req_per_s: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    """Raise UsageError when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise UsageError("wrk is not installed", next="install it: apt install wrk (or your system's like)")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write request bodies, one a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_wrk(port: int, rows_file: Path, *, connections: int, duration_s: int) -> WrkRun:
    """Post the rows in turn from one thread; raise SlipwayError when a single request failed."""
    options = ["-t1", f"-c{connections}", f"-d{duration_s}s", "-s", str(SCRIPT)]
    done = subprocess.run(
        ["wrk", *options, f"http://127.0.0.1:{port}", "--", str(rows_file)],
        capture_output=True,
        text=True,
        timeout=duration_s + _SPARE_S,
        check=False,
    )
    if done.returncode != 0:
        raise SlipwayError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise SlipwayError(f"{found['failed']} of {found['requests']} requests of wrk failed")
    return WrkRun(
        requests=found["requests"],
        req_per_s=found["requests"] / found["duration_us"] * 1e6,
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
    )
