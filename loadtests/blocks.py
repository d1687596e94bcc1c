"""Measure candidate and champion in turn: what slows the machine for a while then slows both."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.comparison import Block
from loadtests.look import Stretch
from loadtests.plan import ComparisonPlan, Plan
from loadtests.quantiles import observed_quantile
from loadtests.samples import Look

# Of the looks' own numbers none is as large.
FIRST_NUMBER = 100
P99 = 0.99

Measure = Callable[[Stretch], tuple[list[Look], list[Path]]]


@dataclass(frozen=True)
class Ratio:
    """How a block's arms compare, for people; infinite where a request in a hundred got no reply."""

    block: int
    candidate_p99_ms: float
    champion_p99_ms: float
    ratio: float


def measure_blocks(
    plan: Plan, comparison: ComparisonPlan, measure: Measure, *, after: int = 0
) -> tuple[list[Block], list[Path]]:
    """Measure the blocks that follow the first `after` ones, the candidate first in the odd ones.

    Returns them with their raw files. One generator takes all turns, so that the arms differ in nothing else.
    """
    first = after + 1
    stretch = Stretch(
        f"comparison from block {first}",
        FIRST_NUMBER + first,
        plan.host,
        comparison.warmup_s,
        comparison.block_s,
        champion=comparison.host,
        blocks=comparison.blocks,
    )
    looks, raws = measure(stretch)
    pairs = zip(looks[::2], looks[1::2], strict=True)
    return [Block(*pair) if index % 2 == 0 else Block(*reversed(pair)) for index, pair in enumerate(pairs)], raws


def ratios_of(blocks: list[Block], route: str) -> tuple[Ratio, ...]:
    """Return the ratio of the arms' p99 in each block that measured both."""
    ratios = []
    for number, block in enumerate(blocks, start=1):
        arms = [np.sort(look.part(route).latency_ms) for look in (block.candidate, block.champion)]
        if all(map(len, arms)):
            ours, theirs = (observed_quantile(latency_ms, P99) for latency_ms in arms)
            ratios.append(Ratio(number, ours, theirs, ours / theirs if theirs else math.inf))
    return tuple(ratios)
