"""Simulate services of a known law and count what the judge finds: `python -m loadtests.simulation`.

Every run goes the judge's whole way, from looks to a verdict; nothing is sent and no clock is read.
"""

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.comparison import Block, judge_comparison
from loadtests.plan import Arrivals, ComparisonPlan, Limit, Plan
from loadtests.samples import Look, Window
from loadtests.slo import judge
from loadtests.verdict import Verdict

RATE_PER_S = 200
RUN_S = 60
LIMIT_MS = 100.0
BURSTS = (5, 20, 50)
INDEPENDENT = (0.005, 0.01, 0.015)
CLUSTERED = (0.01, 0.02, 0.03)
COMPARED = 4

Floats = NDArray[np.float64]
Case = Callable[[np.random.Generator], Verdict]


@dataclass(frozen=True)
class Service:
    """A lognormal latency whose level drifts, with pauses that hold back whatever arrives in them."""

    median_ms: float
    sigma: float
    drift: float
    pauses_per_s: float
    pause_s: float

    def latency_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        """Return a latency for each of the evenly spaced arrivals."""
        level = _drift(int(due_s[-1]) + 2, rng)[due_s.astype(np.int64)] * self.drift
        latency_ms: Floats = self.median_ms * np.exp(level + self.sigma * rng.standard_normal(len(due_s)))
        return latency_ms + self._held_ms(due_s, rng)

    def _held_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        held_ms = np.zeros(len(due_s))
        pauses = rng.poisson(self.pauses_per_s * due_s[-1])
        for begin_s, length_s in zip(
            rng.uniform(0, due_s[-1], pauses), rng.exponential(self.pause_s, pauses), strict=True
        ):
            first, last = np.searchsorted(due_s, (begin_s, begin_s + length_s))
            held_ms[first:last] += (begin_s + length_s - due_s[first:last]) * 1000
        return held_ms


SERVICES: Mapping[str, Service] = {
    "steady": Service(1.0, 0.5, 0.0, 0.0, 0.0),
    "drifting": Service(1.0, 0.5, 0.2, 0.0, 0.0),
    "pausing": Service(1.0, 0.5, 0.1, 0.2, 0.02),
}


@dataclass(frozen=True)
class Change:
    """What makes a candidate differ: slower requests by chance, or pauses of its own."""

    slower_ms: float = 0.0
    slower_share: float = 0.0
    pauses_per_s: float = 0.0
    pause_s: float = 0.0

    def added_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        """Return what the change adds to each request."""
        pauses = Service(0.0, 0.0, 0.0, self.pauses_per_s, self.pause_s)
        slower: Floats = np.where(rng.random(len(due_s)) < self.slower_share, self.slower_ms, 0.0)
        return slower + pauses.latency_ms(due_s, rng)


# The same version, one slower by 20 ms in 2 % of its requests, and one that pauses for 0.2 s every 10 s.
CHANGES: Mapping[str, Change] = {
    "same": Change(),
    "slower": Change(slower_ms=20, slower_share=0.02),
    "pauses": Change(pauses_per_s=0.1, pause_s=0.2),
}


def plan_of(**changes: Any) -> Plan:
    """Return the plan of a simulated run: one look, p99 within 100 ms."""
    comparison = ComparisonPlan("http://127.0.0.1:2", "5", 100, 1.0, 0.25, margin=1.1, tolerance_ms=0.5)
    plan = Plan(
        host="http://127.0.0.1:1",
        path="/predict",
        rate_per_s=RATE_PER_S,
        warmup_s=0,
        duration_s=RUN_S,
        arrivals=Arrivals.FIXED,
        seed=1,
        timeout_s=5,
        max_in_flight=200,
        workers=1,
        expected_version="6",
        rows_file=Path("rows.json"),
        limits=(Limit(0.99, LIMIT_MS, judged=True),),
        max_error_rate=0.05,
        max_stall_s=1.0,
        extension=False,
        comparison=comparison,
    )
    return replace(plan, **changes)


def look_of(latency_ms: Any, *, duration_s: float = RUN_S, version: str = "6", **changes: Any) -> Look:
    """Return a sound look whose evenly spaced requests took `latency_ms`; infinite ones had no reply."""
    latency_ms = np.asarray(latency_ms, dtype=float)
    n = len(latency_ms)
    intended_s = 1000 + np.arange(n) * duration_s / max(n, 1)
    look = Look(
        window=Window(1000, 1000 + duration_s, n, 0.1),
        intended_s=intended_s,
        sent_s=intended_s + 0.0001,
        latency_ms=latency_ms,
        failed=np.isinf(latency_ms),
        answered=~np.isinf(latency_ms),
        served={version: n},
        errors={},
    )
    return replace(look, **changes)


CONTROL = look_of(np.full(400, 1.0), duration_s=2)


def bursts(n: int, share: float, burst: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark slow runs of geometric length, at random places and n * share / burst of them on average."""
    slow = np.zeros(n, dtype=bool)
    for start in rng.integers(n, size=rng.poisson(-np.log1p(-share) * n / burst)):
        slow[start : start + rng.geometric(1 / burst)] = True
    return slow


def blocks_of(service: Service, change: Change, plan: Plan, rng: np.random.Generator) -> list[Block]:
    """Measure the service as the champion and, changed, as the candidate: in turn, as the plan says (ABBA)."""
    comparison = plan.comparison
    if comparison is None:
        return []
    size = int(plan.rate_per_s * comparison.block_s)
    # One timeline for both arms: drift and pauses are the machine's.
    latency_ms = service.latency_ms(np.arange(2 * comparison.blocks * size) / plan.rate_per_s, rng)
    turns = latency_ms.reshape(comparison.blocks, 2, size)
    turns[1::2] = turns[1::2, ::-1].copy()
    added_ms = change.added_ms(np.arange(comparison.blocks * size) / plan.rate_per_s, rng).reshape(-1, size)
    return [
        Block(
            look_of(candidate + added, duration_s=comparison.block_s, version=plan.expected_version),
            look_of(champion, duration_s=comparison.block_s, version=comparison.expected_version),
        )
        for (candidate, champion), added in zip(turns, added_ms, strict=True)
    ]


def limit_cases() -> dict[str, Case]:
    """Return the laws of slow requests that are judged by a limit on p99, by name."""
    found: dict[str, Case] = {f"independent_{share * 100:g}_pct": partial(_independent, share) for share in INDEPENDENT}
    for burst in BURSTS:
        found |= {f"bursts_of_{burst}_{share * 100:g}_pct": partial(_clustered, share, burst) for share in CLUSTERED}
    return found


def comparison_cases() -> dict[str, Case]:
    """Return the pairs of candidate and champion that are compared, by name."""
    pairs = itertools.product(SERVICES, CHANGES)
    return {f"{service}_{change}": partial(_compared, service, change) for service, change in pairs}


def count(name: str, runs: int, seed: int) -> dict[str, int]:
    """Return how often each verdict was found in so many runs of a case."""
    cases = limit_cases() | comparison_cases()
    rng = np.random.default_rng([seed, *name.encode()])
    return dict(Counter(str(cases[name](rng)) for _ in range(runs)))


def judging_s(samples: int, seed: int) -> float:
    """Return how long it takes to judge one look of so many requests by three limits."""
    look = look_of(np.random.default_rng(seed).exponential(10, samples), duration_s=samples / 2000)
    limits = tuple(Limit(quantile, LIMIT_MS, judged=True) for quantile in (0.95, 0.99, 0.999))
    begun_s = time.perf_counter()
    judge(plan_of(limits=limits), [look], CONTROL)
    return time.perf_counter() - begun_s


def _independent(share: float, rng: np.random.Generator) -> Verdict:
    return _judged(rng.random(RATE_PER_S * RUN_S) < share)


def _clustered(share: float, burst: int, rng: np.random.Generator) -> Verdict:
    return _judged(bursts(RATE_PER_S * RUN_S, share, burst, rng))


def _judged(slow: NDArray[np.bool_]) -> Verdict:
    return judge(plan_of(), [look_of(np.where(slow, LIMIT_MS + 50, 10.0))], CONTROL).verdict


def _compared(service: str, change: str, rng: np.random.Generator) -> Verdict:
    plan = plan_of()
    return judge_comparison(plan, blocks_of(SERVICES[service], CHANGES[change], plan, rng)).verdict


def _drift(seconds: int, rng: np.random.Generator) -> Floats:
    """Return a level of standard deviation 1 that forgets itself within about ten seconds."""
    steps = rng.standard_normal(seconds)
    for second in range(1, seconds):
        steps[second] = 0.9 * steps[second - 1] + np.sqrt(1 - 0.81) * steps[second]
    return steps


def main(argv: Sequence[str] | None = None) -> int:
    """Count every case on all cores and write one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.simulation", description="Test the judge.")
    parser.add_argument("--runs", type=int, default=2000, help="of each law; comparisons take a quarter")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    took_s = judging_s(1_000_000, options.seed)
    runs = dict.fromkeys(limit_cases(), options.runs) | dict.fromkeys(comparison_cases(), options.runs // COMPARED)
    with ProcessPoolExecutor() as pool:
        counted = pool.map(count, runs, runs.values(), itertools.repeat(options.seed))
        cases = dict(zip(runs, counted, strict=True))
    sys.stdout.write(json.dumps({"judging_s": took_s, "cases": cases}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
