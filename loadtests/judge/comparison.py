"""Judge whether the candidate is slower than the champion, both measured in turn: pure, by pairs of looks.

The ratio is that of the typical block: a mean of the blocks' log ratios of p99 that leaves out the outer fifths,
because a pause of the machine strikes one arm of a few blocks. What is left out can hold a version, though: none
passes whose whole p99 is far above the champion's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from loadtests.judge import arm
from loadtests.judge.arm import Trouble
from loadtests.judge.quantiles import observed_quantile
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
    trouble = _trouble(plan, comparison, blocks)
    if trouble:
        return _untrusted(trouble, comparison.margin)
    timeout_ms = plan.timeout_s * 1000
    arms = ([arm.counted(block.candidate) for block in blocks], [arm.counted(block.champion) for block in blocks])
    for number, latency_ms in enumerate(arms[1], start=1):
        if math.isinf(_p99_ms(latency_ms)):
            return _untrusted(Trouble(f"block {number}: the champion's p99 is a timeout"), comparison.margin)
    # The candidate's timeouts took at least this long.
    candidate_ms, champion_ms = ([np.where(np.isinf(block), timeout_ms, block) for block in each] for each in arms)
    if not all(_p99_ms(block) > 0 for block in (*candidate_ms, *champion_ms)):
        return _untrusted(Trouble("a block has a p99 of 0 ms"), comparison.margin)
    evidence = compare_arms(candidate_ms, champion_ms, alpha=plan.alpha, seed=plan.seed)
    p99_ms = evidence.typical_ms
    trouble = _first_of(blocks, lambda _, looks: arm.trouble_in_sending(plan, comparison, looks, p99_ms))
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
    ours, theirs = (np.log([_p99_ms(block) for block in each]) for each in (candidate_ms, champion_ms))
    logs = ours - theirs
    drawn = np.random.default_rng(seed).integers(len(logs), size=(BOOTSTRAPS, len(logs)))
    means = _typical(logs[drawn])
    shares = [_expanded(alpha * STOP_SHARE, len(logs)), _expanded(1 - alpha, len(logs))]
    low, high = np.quantile(means, shares)
    return Evidence(
        ratio=math.exp(_typical(logs[None, :])[0]),
        low=math.exp(low),
        high=math.exp(high),
        candidate_ms=_p99_ms(np.concatenate(candidate_ms)),
        champion_ms=_p99_ms(np.concatenate(champion_ms)),
        typical_ms=math.exp(_typical(theirs[None, :])[0]),
    )


def _typical(logs: Floats) -> Floats:
    """Return the mean of each row without its outer parts."""
    out = int(logs.shape[1] * LEFT_OUT)
    middle: Floats = np.sort(logs, axis=1)[:, out : logs.shape[1] - out].mean(axis=1)
    return middle


def _expanded(share: float, n: int) -> float:
    return float(stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(share, n - 1)))


def _p99_ms(latency_ms: Floats) -> float:
    return observed_quantile(np.sort(latency_ms), QUANTILE)


def _trouble(plan: Plan, comparison: ComparisonPlan, blocks: Sequence[Block]) -> Trouble | None:
    """Say why the blocks can't be judged, None where they can."""
    needed = max(MIN_BLOCKS, comparison.blocks)
    if len(blocks) < needed:
        return Trouble(f"{len(blocks)} blocks, needed {needed}")
    versions = {"candidate": plan.expected_version, "champion": comparison.expected_version}
    return _first_of(blocks, lambda name, looks: arm.trouble_in(plan, looks, versions[name]))


def _first_of(blocks: Sequence[Block], trouble_in: Callable[[str, list[Look]], Trouble | None]) -> Trouble | None:
    """Return the first trouble of an arm, with its name."""
    arms = {"candidate": [block.candidate for block in blocks], "champion": [block.champion for block in blocks]}
    troubles = ((name, trouble_in(name, looks)) for name, looks in arms.items())
    found = ((name, trouble) for name, trouble in troubles if trouble)
    return next((replace(trouble, message=f"the {name}: {trouble.message}") for name, trouble in found), None)


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
