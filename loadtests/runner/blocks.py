"""Measure candidate and champion in turn: what slows the machine for a while then slows both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.generator.turn import Turn
from loadtests.judge.arm import counted
from loadtests.judge.comparison import Block
from loadtests.judge.quantiles import observed_quantile
from loadtests.judge.verdict import Measured
from loadtests.plan.personas import scorer_of
from loadtests.plan.plan import ComparisonPlan, Plan
from loadtests.runner.phase import Phase
from loadtests.samples import Look

P99 = 0.99


@dataclass(frozen=True)
class Ratio:
    """How a block's arms compare, for people; infinite where a request in a hundred got no reply."""

    block: int
    candidate_p99_ms: Measured
    champion_p99_ms: Measured
    ratio: Measured


def blocks_phase(plan: Plan, comparison: ComparisonPlan, look: int) -> Phase:
    """Return the phase that measures one look's blocks, the candidate first in the odd ones, on the plan's path."""
    turns = [
        Turn(block, plan.host if candidate else comparison.host, comparison.warmup_s, comparison.block_s)
        for block in range(1, comparison.blocks + 1)
        for candidate in _order(block)
    ]
    length_s = sum(turn.warmup_s + turn.duration_s for turn in turns)
    mix = ((scorer_of(plan.path), 1.0),)
    return Phase(f"blocks {look}", look, plan.host, 0.0, length_s, mix=mix, turns=tuple(turns))


def pair(looks: Sequence[Look]) -> list[Block]:
    """Put the looks of a phase's turns together as its blocks."""
    blocks = []
    for number, both in enumerate(zip(looks[::2], looks[1::2], strict=True), start=1):
        arms = dict(zip(_order(number), both, strict=True))
        blocks.append(Block(candidate=arms[True], champion=arms[False]))
    return blocks


def _order(block: int) -> tuple[bool, bool]:
    """Tell of each arm in turn whether it is the candidate."""
    return (True, False) if block % 2 else (False, True)


def ratios_of(blocks: Sequence[Block], route: str) -> tuple[Ratio, ...]:
    """Return the ratio of the arms' p99 in each block that measured both, over the requests that are judged."""
    ratios = []
    for number, block in enumerate(blocks, start=1):
        arms = [counted(look.part(route)) for look in (block.candidate, block.champion)]
        if all(map(len, arms)):
            ours, theirs = (observed_quantile(latency_ms, P99) for latency_ms in arms)
            ratios.append(Ratio(number, ours, theirs, ours / theirs if theirs else math.inf))
    return tuple(ratios)
