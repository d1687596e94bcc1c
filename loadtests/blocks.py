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

Measure = Callable[[Stretch], tuple[Look, list[Path]]]


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

    Returns them with all raw files. Both arms of a block are sent the same requests at the same offsets.
    """
    hosts = {"candidate": plan.host, "champion": comparison.host}
    blocks, raws = [], []
    for number in range(after + 1, after + comparison.blocks + 1):
        looks = {}
        for arm in sorted(hosts, reverse=number % 2 == 0):
            stretch = Stretch(
                f"block {number} {arm}", FIRST_NUMBER + number, hosts[arm], comparison.warmup_s, comparison.block_s
            )
            looks[arm], files = measure(stretch)
            raws += files
        blocks.append(Block(**looks))
    return blocks, raws


def ratios_of(blocks: list[Block], route: str) -> tuple[Ratio, ...]:
    """Return the ratio of the arms' p99 in each block that measured both."""
    ratios = []
    for number, block in enumerate(blocks, start=1):
        arms = [np.sort(look.part(route).latency_ms) for look in (block.candidate, block.champion)]
        if all(map(len, arms)):
            ours, theirs = (observed_quantile(latency_ms, P99) for latency_ms in arms)
            ratios.append(Ratio(number, ours, theirs, ours / theirs if theirs else math.inf))
    return tuple(ratios)
