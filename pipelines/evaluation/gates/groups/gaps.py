"""How far apart the rates of groups are, with bounds that hold for all pairs of groups looked at together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING

from pipelines.evaluation.gates.groups.bins import Binned
from pipelines.evaluation.gates.offline.rows import wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rate:
    """A mean over some rows that groups may differ in: `values` (n,) of all rows, of which `rows` (n,) count.

    `shares` tells that the values are 0 and 1, so that their mean is a share.
    """

    name: str
    values: "NDArray[np.float64]"
    rows: "NDArray[np.bool_]"
    shares: bool = True


@dataclass(frozen=True)
class GroupRate:
    """The mean of a group's rows, and their variance."""

    group: str
    rows: int
    mean: float
    variance: float


@dataclass(frozen=True)
class Gap:
    """The two groups of an attribute whose rate is furthest apart, as far as is proven, and all groups' rates.

    `interval` is that of the difference, which is positive.
    """

    attribute: str
    rate: str
    low: GroupRate
    high: GroupRate
    interval: tuple[float, float]
    groups: tuple[GroupRate, ...]

    @property
    def difference(self) -> float:
        """By how much the higher rate is higher."""
        return self.high.mean - self.low.mean


def group_rates(attribute: Binned, rate: Rate, minimum: int) -> tuple[list[GroupRate], int]:
    """Return the rate of each group with so many rows that count, and how many groups have fewer."""
    import numpy as np

    codes, values = attribute.codes[rate.rows], rate.values[rate.rows]
    counts = np.bincount(codes, minlength=len(attribute.names))
    means = np.bincount(codes, values, minlength=len(counts)) / np.maximum(counts, 1)
    squares = np.bincount(codes, (values - means[codes]) ** 2, minlength=len(counts))
    variances = squares / np.maximum(counts - 1, 1)
    large = np.flatnonzero(counts >= minimum)
    found = [
        GroupRate(attribute.names[each], int(counts[each]), float(means[each]), float(variances[each]))
        for each in large
    ]
    return found, len(counts) - len(large)


def pairs_of(groups: Sequence[GroupRate]) -> list[tuple[GroupRate, GroupRate]]:
    """Return every two groups, the one of the lower rate first."""
    ordered = sorted(groups, key=lambda each: each.mean)
    return list(combinations(ordered, 2))


def interval_of(low: GroupRate, high: GroupRate, level: float, *, shares: bool) -> tuple[float, float]:
    """Return the one-sided bounds at `level` of the difference of two groups' rates.

    Of shares they are Newcombe's, of Wilson's scores (Newcombe 1998, method 10); of means Welch's.
    """
    if not shares:
        from scipy.stats import t

        error = (low.variance / low.rows + high.variance / high.rows) ** 0.5
        reach = float(t.isf(level, min(low.rows, high.rows) - 1)) * error
        return high.mean - low.mean - reach, high.mean - low.mean + reach
    z = NormalDist().inv_cdf(1 - level)
    (low_from, low_to), (high_from, high_to) = (wilson(g.mean * g.rows, g.rows, z) for g in (low, high))
    difference = high.mean - low.mean
    below = ((high.mean - high_from) ** 2 + (low_to - low.mean) ** 2) ** 0.5
    above = ((high_to - high.mean) ** 2 + (low.mean - low_from) ** 2) ** 0.5
    return difference - below, difference + above
