"""Check that what was measured of one arm of a comparison, in all its blocks, can be compared at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.judge import validity
from loadtests.judge.stall import longest_stall
from loadtests.judge.verdict import About, Check, Verdict
from loadtests.plan.plan import MIN_BLOCK_REQUESTS, ComparisonPlan, Plan
from loadtests.samples import Look

# A tenth of the slowest hundredth that p99 is about: what is missing may have been the slowest of all.
MAX_MISSING = 0.001


def counted(look: Look) -> NDArray[np.float64]:
    """Return the latencies without the errors that were answered: these must not flatter a quantile."""
    return look.latency_ms[~look.failed | ~look.answered]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the looks at it, one a block, and the latencies that count in each."""

    name: str
    version: str
    looks: Sequence[Look]
    latency_ms: Sequence[NDArray[np.float64]]

    @classmethod
    def of(cls, name: str, version: str, looks: Sequence[Look]) -> "Arm":
        """Take what counts from the looks at a service that should be of this version."""
        return cls(name, version, looks, [counted(look) for look in looks])


@dataclass(frozen=True)
class Trouble:
    """Why an arm can't be compared, and whom that is about."""

    message: str
    about: About = About.TARGET


def trouble_in(plan: Plan, arm: Arm) -> Trouble | None:
    """Say what is wrong with the replies of an arm, None where nothing is."""
    looks = arm.looks
    trouble = _first_not_passed([validity.data_check(looks), validity.version_check(looks, arm.version)])
    if trouble:
        return trouble
    least = MIN_BLOCK_REQUESTS // 2
    for number, latency_ms in enumerate(arm.latency_ms, start=1):
        if len(latency_ms) < least:
            return Trouble(f"block {number} has {len(latency_ms)} requests that count, needed {least}")
    failed = np.concatenate([look.failed for look in looks])
    if failed.mean() > plan.max_error_rate:
        return Trouble(f"{failed.sum():,} of {len(failed):,} failed, which is judged apart and flatters p99")
    return _stalled(looks, plan.max_stall_s)


def trouble_in_sending(
    plan: Plan, comparison: ComparisonPlan, looks: Sequence[Look], champion_p99_ms: float
) -> Trouble | None:
    """Say why an arm was not sent well enough to be compared, None where it was; each look must be sound by itself.

    What is sent late is measured as slower in either arm, and two arms that are slower by the same are more alike. So
    fewer than one request in a hundred may be late by as much as the comparison decides over: the tolerance, or the
    margin's part of the champion's p99.
    """
    decisive_ms = max(comparison.tolerance_ms, (1 - 1 / comparison.margin) * champion_p99_ms)
    parts = [looks[first : first + comparison.blocks] for first in range(0, len(looks), comparison.blocks)]
    trouble = _first_not_passed(validity.generator_checks(parts, min(decisive_ms, validity.lag_allowed_ms(plan))))
    if trouble:
        return trouble
    for part in parts:
        missing, planned = validity.missing_requests(part), validity.planned_sends(part)
        if missing > MAX_MISSING * planned:
            lost = f"{missing:,} of {planned:,} planned requests were not measured, which may have been the slowest"
            return Trouble(lost)
    return None


def _first_not_passed(checks: Sequence[Check]) -> Trouble | None:
    broken = (check for check in checks if check.verdict is not Verdict.PASSED)
    return next((Trouble(check.message.removeprefix("INCONCLUSIVE: "), check.about) for check in broken), None)


def _stalled(looks: Sequence[Look], max_stall_s: float) -> Trouble | None:
    for number, look in enumerate(looks, start=1):
        # A silence is never longer than the wait of the request that it counts from.
        if look.latency_ms.max() > max_stall_s * 1000:
            stall = longest_stall([look])
            if stall.length_s > max_stall_s:
                return Trouble(f"{stall.length_s:.3f} s without a reply in block {number}")
    return None
