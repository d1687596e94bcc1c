"""How long the judge of a load run takes, and how often it is wrong, over simulated runs of a known latency model."""

import json
import subprocess
import sys
from typing import Any

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.errors import SlipwayError

RUNS = 2000
SEED = 1
TIMEOUT_S = 1200
VERDICTS = ("passed", "failed", "inconclusive")
SERVICES = ("steady", "drifting", "pausing")
BURSTS = (5, 20, 50)


def measure(place: Place) -> Measured:
    """Let the judge count its own verdicts; shares are of the runs of a law."""
    body = _simulate(place)
    figures = {"judging_1m_s": float(body["judging_s"])}
    for case, counts in body["cases"].items():
        runs = sum(counts.values())
        figures |= {f"{case}_{verdict}": counts.get(verdict, 0) / runs for verdict in VERDICTS}
    return Measured(
        about=f"1 M requests are judged once, and {RUNS:,} simulated runs of each law of slow requests with seed {SEED}"
        f" against p99 <= 100 ms, {RUNS // 4} of each comparison",
        figures=figures,
        limits=(Limit("judging_1m_s", Bound.AT_MOST, 3), *_limits()),
    )


def _simulate(place: Place) -> dict[str, Any]:
    command = [sys.executable, "-m", "loadtests.study.simulation", f"--runs={RUNS}", f"--seed={SEED}"]
    done = subprocess.run(
        command,
        cwd=place.settings.root,
        env=place.child_environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise SlipwayError(f"the simulation ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def _limits() -> tuple[Limit, ...]:
    """Return what the judge promises of independent and of clustered slow requests, and of a comparison."""
    most = {"independent_1_pct_passed": 0.06, "independent_1_pct_failed": 0.06}
    most |= {f"bursts_of_{burst}_2_pct_passed": 0.1 for burst in BURSTS}
    most |= {f"bursts_of_{burst}_3_pct_passed": 0.05 for burst in BURSTS}
    most |= {f"{service}_same_failed": 0.05 for service in SERVICES}
    least = {f"{service}_same_passed": 0.9 for service in SERVICES}
    least |= {f"{service}_slower_failed": 0.95 for service in SERVICES}
    return (
        *(Limit(figure, Bound.AT_MOST, value) for figure, value in most.items()),
        *(Limit(figure, Bound.AT_LEAST, value) for figure, value in least.items()),
    )
