"""Thin the latencies of a run to the points of a curve, so that its shape is kept where its raw values are not."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 160
# Digits of a latency, as a drawing shows it.
_DIGITS = 4


class Measuring(StrEnum):
    """What was measured: the version by itself, which the limits judge, or one of the two that were loaded in turn."""

    ALONE = "alone"
    CANDIDATE_IN_TURN = "candidate_in_turn"
    CHAMPION_IN_TURN = "champion_in_turn"


@dataclass(frozen=True)
class Curve:
    """Which share of the requests on the plan's path was answered within so many milliseconds, both ascending.

    Errors that were answered do not count; what got no reply is never reached.
    """

    of: Measuring
    ms: tuple[float, ...]
    share: tuple[float, ...]


def curve_of(of: Measuring, latency_ms: NDArray[np.float64]) -> Curve:
    """Return the empirical distribution of latencies, infinite ones among them, in few points."""
    ordered = np.sort(latency_ms)
    ranks = drawn_ranks(len(ordered), MOST_POINTS)
    answered = ranks[np.isfinite(ordered[ranks])]
    shares = (answered + 1) / max(1, len(ordered))
    ms = (float(f"{each:.{_DIGITS}g}") for each in ordered[answered])
    return Curve(of, tuple(ms), tuple(shares.round(6).tolist()))


def drawn_ranks(n: int, most: int) -> NDArray[np.int_]:
    """Return which of n ordered values are drawn: as many in the last hundredth as before it, where limits lie."""
    if not n:
        return np.zeros(0, dtype=np.int_)
    before, tail = np.linspace(0, n - 1, most // 2), np.linspace(0.99 * n, n - 1, most // 2)
    return np.unique(np.concatenate((before, tail)).astype(int))
