"""Simulate services of a known latency model and count what the judge finds: `python -m loadtests.study.simulation`.

Every run goes the judge's whole way, from looks to a verdict; nothing is sent and no clock is read.
"""

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.judge.comparison import Block, judge_comparison
from loadtests.judge.slo import judge
from loadtests.judge.verdict import Verdict
from loadtests.plan.plan import Arrivals, ComparisonPlan, Limit, Plan
from loadtests.samples import Look, Window
from loadtests.study.latency_models import CHANGES, SERVICES, Change, Service, bursts

RATE_PER_S = 200
RUN_S = 60
LIMIT_MS = 100.0
BURSTS = (5, 20, 50)
INDEPENDENT = (0.005, 0.01, 0.015)
CLUSTERED = (0.01, 0.02, 0.03)
# How much of its promise a short run keeps is asked of the worst bursts at a share that must not pass.
LENGTHS_S = (10, 20, 30, 60)
WORST_BURST, WORST_SHARE = 50, 0.02
COMPARED = 4

Case = Callable[[np.random.Generator], Verdict]


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


def looks_of(latency_ms: NDArray[np.float64], *, duration_s: float, version: str) -> list[Look]:
    """Return a sound look for each row, whose evenly spaced requests took so long; infinite ones had no reply."""
    n = latency_ms.shape[1]
    window = Window(1000, 1000 + duration_s, n, 0.1)
    intended_s = 1000 + np.arange(n) * duration_s / max(n, 1)
    sent_s = intended_s + 0.0001
    failed = np.isinf(latency_ms)
    rows = zip(latency_ms, failed, ~failed, strict=True)
    return [Look(window, intended_s, sent_s, *row, served={version: n}, errors={}) for row in rows]


def look_of(latency_ms: Any, *, duration_s: float = RUN_S, version: str = "6", **changes: Any) -> Look:
    """Return one sound look with what differs in it."""
    (look,) = looks_of(np.asarray(latency_ms, dtype=float)[None, :], duration_s=duration_s, version=version)
    return replace(look, **changes)


CONTROL = look_of(np.full(400, 1.0), duration_s=2)


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
    candidates = looks_of(turns[:, 0] + added_ms, duration_s=comparison.block_s, version=plan.expected_version)
    champions = looks_of(turns[:, 1], duration_s=comparison.block_s, version=comparison.expected_version)
    return [Block(*pair) for pair in zip(candidates, champions, strict=True)]


def limit_cases() -> dict[str, Case]:
    """Return the laws of slow requests that are judged by a limit on p99, by name."""
    found: dict[str, Case] = {f"independent_{share * 100:g}_pct": partial(_independent, share) for share in INDEPENDENT}
    for burst in BURSTS:
        found |= {f"bursts_of_{burst}_{share * 100:g}_pct": partial(_clustered, share, burst) for share in CLUSTERED}
    return found


def length_cases() -> dict[str, Case]:
    """Return the worst bursts in runs of several lengths, in one look and with a second one planned, by name."""
    found: dict[str, Case] = {}
    for length_s, extension in itertools.product(LENGTHS_S, (False, True)):
        name = f"bursts_of_{WORST_BURST}_in_{length_s}_s_{'two_looks' if extension else 'one_look'}"
        found[name] = partial(_clustered, WORST_SHARE, WORST_BURST, length_s=length_s, extension=extension)
    return found


def comparison_cases() -> dict[str, Case]:
    """Return the pairs of candidate and champion that are compared, by name."""
    pairs = itertools.product(SERVICES, CHANGES)
    return {f"{service}_{change}": partial(_compared, service, change) for service, change in pairs}


def count(name: str, runs: int, seed: int) -> dict[str, int]:
    """Return how often each verdict was found in so many runs of a case."""
    cases = limit_cases() | length_cases() | comparison_cases()
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
    slow = rng.random(RATE_PER_S * RUN_S) < share
    return judge(plan_of(), [look_of(np.where(slow, LIMIT_MS + 50, 10.0))], CONTROL).verdict


def _clustered(
    share: float, burst: int, rng: np.random.Generator, *, length_s: int = RUN_S, extension: bool = False
) -> Verdict:
    """Judge one look and, where it proves neither yes nor no and that is planned, a second one with it."""
    plan = plan_of(duration_s=length_s, extension=extension)
    looks: list[Look] = []
    for _ in range(plan.looks):
        slow = bursts(RATE_PER_S * length_s, share, burst, rng)
        looks.append(look_of(np.where(slow, LIMIT_MS + 50, 10.0), duration_s=length_s))
        judgement = judge(plan, looks, CONTROL)
        if not judgement.extendable:
            break
    return judgement.verdict


def _compared(service: str, change: str, rng: np.random.Generator) -> Verdict:
    plan = plan_of()
    return judge_comparison(plan, blocks_of(SERVICES[service], CHANGES[change], plan, rng)).verdict


def main(argv: Sequence[str] | None = None) -> int:
    """Count every case on all cores and write one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.study.simulation", description="Test the judge.")
    parser.add_argument("--runs", type=int, default=2000, help="of each law; comparisons take a quarter")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    took_s = judging_s(1_000_000, options.seed)
    runs = dict.fromkeys([*limit_cases(), *length_cases()], options.runs)
    runs |= dict.fromkeys(comparison_cases(), options.runs // COMPARED)
    with ProcessPoolExecutor() as pool:
        counted = pool.map(count, runs, runs.values(), itertools.repeat(options.seed))
        cases = dict(zip(runs, counted, strict=True))
    sys.stdout.write(json.dumps({"judging_s": took_s, "cases": cases}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
