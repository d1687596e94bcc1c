"""Find the highest rate that still meets the SLO: step up until one fails, then halve what lies between.

A rate counts as met by a passed run only, and as too high by a failed one only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as written

from loadtests.judge.verdict import About, Check, Verdict
from loadtests.plan.plan import Plan, Via
from loadtests.plan.shapes import STEADY
from loadtests.runner.result import WRITTEN, Result

STEP = 2.0
RESOLUTION = 1.1
MAX_TRIES = 16
RUNS_A_RATE = 2


@dataclass(frozen=True)
class Try:
    """A run at one rate: its verdict, what decided it, and whether it was the generator that could not."""

    rate_per_s: float
    verdict: Verdict
    message: str
    saturated: bool


@dataclass(frozen=True)
class Capacity:
    """The bracket of the highest rate: it lies from `highest_passed_per_s` up to `lowest_failed_per_s`.

    A side that no run has shown is null. The verdict is passed where both are known and lie within 10 %.
    """

    verdict: Verdict
    message: str
    highest_passed_per_s: float | None
    lowest_failed_per_s: float | None
    tries: tuple[Try, ...]


def find_capacity(plan: Plan, run: Callable[[Plan, int], Result]) -> Capacity:
    """Try rates from the plan's own; each run has its number, a steady rate, and no comparison."""
    tries: list[Try] = []
    rate_per_s: float | None = plan.rate_per_s
    while rate_per_s and len(tries) < MAX_TRIES:
        in_flight = max(plan.workers, math.ceil(rate_per_s * plan.timeout_s))
        at_rate = replace(plan, rate_per_s=rate_per_s, max_in_flight=in_flight, shape=STEADY, comparison=None)
        tries.append(_try(rate_per_s, run(at_rate, len(tries) + 1)))
        rate_per_s = next_rate(tries)
    return conclude(tries)


def next_rate(tries: list[Try]) -> float | None:
    """Return the rate to try next, None when no further one would tell more."""
    last = tries[-1]
    if last.verdict is Verdict.ERROR:
        return None
    if last.verdict is Verdict.INCONCLUSIVE:
        again = sum(found.rate_per_s == last.rate_per_s for found in tries) < RUNS_A_RATE
        return last.rate_per_s if again else None
    passed, failed = bracket(tries)
    if passed is None or failed is None:
        return _round(last.rate_per_s * STEP if failed is None else last.rate_per_s / STEP)
    return _round(math.sqrt(passed * failed)) if failed / passed > RESOLUTION else None


def bracket(tries: list[Try]) -> tuple[float | None, float | None]:
    """Return the lowest rate that failed, and the highest that passed below it."""
    failed = min((found.rate_per_s for found in tries if found.verdict is Verdict.FAILED), default=None)
    below = math.inf if failed is None else failed
    rates = (found.rate_per_s for found in tries if found.verdict is Verdict.PASSED and found.rate_per_s < below)
    return max(rates, default=None), failed


def conclude(tries: list[Try]) -> Capacity:
    """Say what the tries have shown."""
    passed, failed = bracket(tries)
    if passed and failed and failed / passed <= RESOLUTION:
        message = f"PASS capacity: {passed:,g} req/s passed, {failed:,g} req/s failed"
        return Capacity(Verdict.PASSED, message, passed, failed, tuple(tries))
    last = tries[-1]
    shown = f"highest passed {_rate(passed)}, lowest failed {_rate(failed)}"
    why = f"{len(tries)} runs did not narrow it further"
    if last.verdict not in (Verdict.PASSED, Verdict.FAILED):
        why = f"at {last.rate_per_s:,g} req/s: {last.message}"
        if last.saturated:
            why = f"the generator was saturated {why}"
    return Capacity(Verdict.INCONCLUSIVE, f"INCONCLUSIVE: capacity: {shown}; {why}", passed, failed, tuple(tries))


@written(frozen=True, config=WRITTEN)
class CapacityResult:
    """The content of result.json of a search, whose one check has the bracket as its interval."""

    verdict: Verdict
    message: str
    highest_passed_per_s: float | None
    lowest_failed_per_s: float | None
    tries: tuple[Try, ...]
    checks: tuple[Check, ...]
    via: Via | None
    started_at: str


CAPACITY = TypeAdapter(CapacityResult)


def describe_capacity() -> dict[str, Any]:
    """Return the JSON Schema of the result.json of a search for the highest rate."""
    return CAPACITY.json_schema(mode="serialization")


def capacity_json(plan: Plan, capacity: Capacity, started_at: str) -> str:
    """Write the content of result.json, with the bracket as the interval of its one check."""
    passed, failed = capacity.highest_passed_per_s, capacity.lowest_failed_per_s
    interval = (passed, failed) if passed is not None and failed is not None else None
    check = Check("capacity", capacity.verdict, passed, None, capacity.message, interval)
    result = CapacityResult(**vars(capacity), checks=(check,), via=plan.via, started_at=started_at)
    return CAPACITY.dump_json(result, indent=2).decode() + "\n"


def _try(rate_per_s: float, result: Result) -> Try:
    judged = [check for check in result.checks if check.judged and check.verdict is not Verdict.PASSED]
    deciding = [check for check in judged if check.verdict is result.verdict]
    sending = [check for check in deciding if check.about in (About.GENERATOR, About.MACHINE)]
    saturated = result.verdict is Verdict.INCONCLUSIVE and bool(sending)
    told = sending if saturated else deciding
    return Try(rate_per_s, result.verdict, told[0].message if told else "every check passed", saturated)


def _round(rate_per_s: float) -> float:
    """Keep three digits: a rate is said aloud."""
    return float(f"{rate_per_s:.3g}")


def _rate(rate_per_s: float | None) -> str:
    return "none" if rate_per_s is None else f"{rate_per_s:,g} req/s"
