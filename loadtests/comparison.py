"""Judge whether the candidate is slower than the champion, both measured in turn: pure, by pairs of looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.plan import Plan
from loadtests.samples import Look
from loadtests.verdict import Check, Verdict


@dataclass(frozen=True)
class Block:
    """One look at each arm, measured one right after the other."""

    candidate: Look
    champion: Look


def judge_comparison(plan: Plan, blocks: Sequence[Block]) -> Check:
    """Judge the ratio of the p99 by the plan's `comparison`; the check is named `comparison`.

    The blocks are judged as they are: a check that can't trust them is inconclusive and says why, it never raises.
    """
    message = f"INCONCLUSIVE: comparison: {len(blocks)} blocks are not judged yet"
    return Check("comparison", Verdict.INCONCLUSIVE, None, plan.comparison.margin if plan.comparison else None, message)
