"""Judge whether the candidate is slower than the champion, both measured in turn: pure, by pairs of looks.

The ratio is that of the typical block: a mean of the blocks' log ratios of p99 that leaves out the outer fifths,
because a pause of the machine strikes one arm of a few blocks. What is left out can hold a version, though: none
passes whose whole p99 is far above the champion's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from loadtests.judge.arm import Arm, Trouble, trouble_in, trouble_in_sending
from loadtests.judge.quantiles import observed_quantile, observed_quantiles
from loadtests.judge.verdict import Check, Verdict, failure
from loadtests.plan.plan import MIN_BLOCKS, ComparisonPlan, Plan
from loadtests.samples import Look

NAME = "p99_ratio"
QUANTILE = 0.99
LEFT_OUT = 0.2
BOOTSTRAPS = 2000
# A wrong stop is to be rarer than a wrong pass by this.
STOP_SHARE = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One look at each arm, measured one right after the other."""

    candidate: Look
    champion: Look


@dataclass(frozen=True)
class Evidence:
    """The candidate's p99 over the champion's in the typical block, its bounds, and both p99 over all blocks.

    `typical_ms` is the champion's p99 in the typical block.
    """

    ratio: float
    low: float
    high: float
    candidate_ms: float
    champion_ms: float
    typical_ms: float


@dataclass(frozen=True)
class Rule:
    """What the ratio must stay below to pass, and what it must exceed to fail."""

    margin: float
    least: float

    @classmethod
    def of(cls, comparison: ComparisonPlan, typical_ms: float) -> "Rule":
        """Widen the plan's margin where it is finer than the difference in ms that counts as none.

        That difference is one of the champion's typical block, as the ratio is.
        """
        tolerated = 1 + comparison.tolerance_ms / typical_ms
        return cls(max(comparison.margin, tolerated), max((1 + comparison.margin) / 2, tolerated))

    def judge(self, evidence: Evidence) -> Verdict:
        """Return the verdict; a pass also needs p99 over all blocks within twice the margin."""
        if evidence.high < self.margin:
            whole = evidence.candidate_ms / evidence.champion_ms
            return Verdict.PASSED if whole < 2 * self.margin - 1 else Verdict.INCONCLUSIVE
        if evidence.low > 1 and evidence.ratio > self.least:
            return Verdict.FAILED
        return Verdict.INCONCLUSIVE


def judge_comparison(plan: Plan, blocks: Sequence[Block]) -> Check:
    """Judge the ratio of p99 by the plan's `comparison`, over the blocks of all looks; it never raises.

    Blocks that can't be trusted are inconclusive and have no interval; with one, more blocks could decide.
    """
    comparison = plan.comparison
    if comparison is None:
        return _untrusted(Trouble("the plan has none"), None)
    if len(blocks) < (needed := max(MIN_BLOCKS, comparison.blocks)):
        return _untrusted(Trouble(f"{len(blocks)} blocks, needed {needed}"), comparison.margin)
    arms = (
        Arm.of("candidate", plan.expected_version, [block.candidate for block in blocks]),
        Arm.of("champion", comparison.expected_version, [block.champion for block in blocks]),
    )
    trouble = _first_of(arms, lambda arm: trouble_in(plan, arm)) or _trouble_in_p99(arms)
    if trouble:
        return _untrusted(trouble, comparison.margin)
    # The candidate's timeouts took at least this long.
    timeout_ms = plan.timeout_s * 1000
    finite_ms = [[np.where(np.isinf(block), timeout_ms, block) for block in arm.latency_ms] for arm in arms]
    evidence = compare_arms(*finite_ms, alpha=plan.alpha, seed=plan.seed)
    trouble = _first_of(arms, lambda arm: trouble_in_sending(plan, comparison, arm.looks, evidence.typical_ms))
    if trouble:
        return _untrusted(trouble, comparison.margin)
    return _check(plan, comparison, evidence, looks=len(blocks) // comparison.blocks)


def extendable(check: Check) -> bool:
    """Tell whether more blocks could decide a comparison."""
    return check.verdict is Verdict.INCONCLUSIVE and check.interval is not None


def compare_arms(candidate_ms: Sequence[Floats], champion_ms: Sequence[Floats], *, alpha: float, seed: int) -> Evidence:
    """Compare two arms, block by block; latencies are finite, and every p99 is above 0.

    Whole blocks are drawn anew. The draws' quantiles are taken further out than `alpha`, by as much as Student's t
    lies outside the normal law, because the draws of a few blocks spread too little.
    """
    ours, theirs = (np.log(observed_quantiles(each, QUANTILE)) for each in (candidate_ms, champion_ms))
    logs = ours - theirs
    order = np.argsort(logs)
    # The place of each block in that order: places of 16 bits are sorted far faster than the values themselves.
    place = np.empty(len(logs), dtype=np.int16)
    place[order] = np.arange(len(logs))
    drawn = np.sort(place[_drawn_blocks(len(logs), seed)], axis=1)
    means = logs[order][_middle(drawn)].mean(axis=1)
    shares = [_expanded(alpha * STOP_SHARE, len(logs)), _expanded(1 - alpha, len(logs))]
    low, high = np.quantile(means, shares)
    return Evidence(
        ratio=math.exp(_middle(logs[order]).mean()),
        low=math.exp(low),
        high=math.exp(high),
        candidate_ms=observed_quantile(np.concatenate(candidate_ms), QUANTILE),
        champion_ms=observed_quantile(np.concatenate(champion_ms), QUANTILE),
        typical_ms=math.exp(_middle(np.sort(theirs)).mean()),
    )


@lru_cache(maxsize=4)
def _drawn_blocks(blocks: int, seed: int) -> NDArray[np.int64]:
    """Return the blocks of each draw, a row each."""
    drawn = np.random.default_rng(seed).integers(blocks, size=(BOOTSTRAPS, blocks))
    drawn.setflags(write=False)
    return drawn


def _middle(ordered: NDArray[Any]) -> NDArray[Any]:
    """Return ascending values without the outer parts."""
    out = int(ordered.shape[-1] * LEFT_OUT)
    return ordered[..., out : ordered.shape[-1] - out]


def _expanded(share: float, n: int) -> float:
    return float(special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, share)))


def _first_of(arms: Sequence[Arm], trouble_in: Callable[[Arm], Trouble | None]) -> Trouble | None:
    """Return the first trouble of an arm, with its name."""
    found = ((arm.name, trouble) for arm in arms if (trouble := trouble_in(arm)))
    return next((replace(trouble, message=f"the {name}: {trouble.message}") for name, trouble in found), None)


def _trouble_in_p99(arms: tuple[Arm, Arm]) -> Trouble | None:
    """Say why the blocks' p99 have no ratio, None where they have."""
    candidate_ms, champion_ms = (observed_quantiles(arm.latency_ms, QUANTILE) for arm in arms)
    unanswered = np.flatnonzero(np.isinf(champion_ms))
    if len(unanswered):
        return Trouble(f"block {unanswered[0] + 1}: the champion's p99 is a timeout")
    return None if min(candidate_ms.min(), champion_ms.min()) > 0 else Trouble("a block has a p99 of 0 ms")


def _untrusted(trouble: Trouble, margin: float | None) -> Check:
    message = f"INCONCLUSIVE: {NAME}: {trouble.message}"
    return Check(NAME, Verdict.INCONCLUSIVE, None, margin, message, about=trouble.about)


def _check(plan: Plan, comparison: ComparisonPlan, evidence: Evidence, *, looks: int) -> Check:
    rule = Rule.of(comparison, evidence.typical_ms)
    verdict = rule.judge(evidence)
    bounds = f"{evidence.low:.4f} to {evidence.high:.4f}"
    arms = f"{evidence.candidate_ms:.2f} ms against {evidence.champion_ms:.2f} ms over all {looks * comparison.blocks}"
    details = f"p99 of the candidate over the champion's, {bounds}; {arms} blocks; {plan.look_name(looks)}"
    limit = round(rule.margin, 4)
    if verdict is Verdict.FAILED:
        # Proven to be slower, it may still be below the margin.
        exceeded = limit if evidence.ratio > limit else round(rule.least, 4)
        message = failure(NAME, evidence.ratio, exceeded, unit="", details=details)
    elif verdict is Verdict.PASSED:
        message = f"PASS {NAME} <= {limit:g}: {evidence.ratio:.4f} ({details})"
    else:
        message = f"INCONCLUSIVE: {NAME} <= {limit:g}: {evidence.ratio:.4f} ({details})"
    return Check(NAME, verdict, evidence.ratio, limit, message, (evidence.low, evidence.high))
