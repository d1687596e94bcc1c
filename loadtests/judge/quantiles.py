"""Exact, distribution-free statistics of a quantile and of an error rate; no assumption on latency's distribution."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BOOTSTRAPS = 400
GRID = 2000
INTERVAL = (0.025, 0.975)
MIN_WINDOWS = 10
LONG_RUN_S = 60

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def max_slow(n: int, quantile: float, alpha: float) -> int:
    """Return m = max{j : P(Bin(n, 1 - quantile) <= j) <= alpha}; -1 where even 0 slow prove nothing."""
    if n <= 0:
        return -1
    first = int(stats.binom.ppf(alpha, n, 1 - quantile))
    return first if stats.binom.cdf(first, n, 1 - quantile) <= alpha else first - 1


def min_failing(n: int, quantile: float, alpha: float) -> int:
    """Return the least k with P(Bin(n, 1 - quantile) >= k) <= alpha; n + 1 where no k is."""
    return int(stats.binom.isf(alpha, n, 1 - quantile)) + 1 if n > 0 else n + 1


def window_length_s(measured_s: float) -> float:
    """Return the length of the windows in which slow requests are counted: 5 s, or 1 s under a minute."""
    # Both ends are read from a clock, so that a minute may be a hair shorter.
    return 5.0 if round(measured_s, 6) >= LONG_RUN_S else 1.0


def design_effect(slow_per_window: Floats, stage: Ints) -> float:
    """Return var / mean of the counts of slow requests, at least 1; 1 where nothing was slow.

    `stage` numbers the stage of the load that each window lies in. Only windows of one stage are compared: what
    differs from stage to stage was planned, and is no clustering.
    """
    windows = np.bincount(stage)
    mean = np.bincount(stage, weights=slow_per_window) / windows
    expected = float(((windows - 1) * mean).sum())
    found = float(((slow_per_window - mean[stage]) ** 2).sum())
    return max(1.0, found / expected) if expected > 0 else 1.0


@dataclass(frozen=True)
class Count:
    """How many of `n` requests were slow, and what that says once clustering (`deff`) is taken off.

    `missing` more were planned and left no record. A yes must hold if all of these were slow, a no if none was.
    """

    n: int
    slow: int
    deff: float
    missing: int = 0

    @property
    def effective_n(self) -> int:
        """Return the number of independent requests that these are worth."""
        return math.floor((self.n + self.missing) / self.deff)

    def most(self, quantile: float, alpha: float) -> int:
        """Return how many slow ones prove that the quantile is within its limit; negative where none would."""
        return max_slow(self.effective_n, quantile, alpha) - self.missing

    def passes(self, quantile: float, alpha: float) -> bool:
        """Tell whether the quantile is proven to be within its limit: the slow are rounded up."""
        return math.ceil(self.slow / self.deff) <= self.most(quantile, alpha)

    def fails(self, quantile: float, alpha: float) -> bool:
        """Tell whether the quantile is proven to be beyond its limit: the slow are rounded down."""
        return math.floor(self.slow / self.deff) >= min_failing(self.effective_n, quantile, alpha)


def observed_quantile(sorted_ms: Floats, quantile: float) -> float:
    """Return the ceil(n q)-th smallest of sorted values: a value that was measured, never interpolated."""
    return float(sorted_ms[max(0, math.ceil(len(sorted_ms) * quantile) - 1)])


def bootstrap_interval(latency_ms: Floats, window: Ints, *, quantile: float, seed: int) -> tuple[float, float]:
    """Return a 95 % interval of the quantile, drawing whole windows so that bursts stay together.

    `window` holds the index of each request's window. The quantile is looked up on up to 2,200 of the
    measured values, which lie closest around and above it.
    """
    ordered = np.sort(latency_ms)
    n = len(ordered)
    around = int(n * max(0.0, 1 - 8 * (1 - quantile)))
    # Without the window that all slow requests lie in, a draw's quantile is one of the quick.
    ranks = np.concatenate((np.linspace(0, around, GRID // 10), np.linspace(around, n - 1, GRID)))
    grid = ordered[np.unique(ranks.astype(np.int64))]
    by_window = np.argsort(window, kind="stable")
    _, starts = np.unique(window[by_window], return_index=True)
    parts = np.split(latency_ms[by_window], starts[1:])
    below = np.array([np.searchsorted(np.sort(part), grid, side="right") for part in parts], dtype=float)
    draws = np.random.default_rng(seed).multinomial(len(parts), [1 / len(parts)] * len(parts), BOOTSTRAPS)
    needed = quantile * (draws @ np.array([len(part) for part in parts]))
    low, high = np.quantile(grid[_first_reaching(needed, draws, below)], INTERVAL, method="inverted_cdf")
    return float(low), float(high)


def _first_reaching(needed: Floats, draws: Ints, below: Floats) -> Ints:
    """Return for each draw the first grid place with enough requests below it, by bisection: the last one has."""
    first = np.zeros(len(draws), dtype=np.int64)
    last = np.full(len(draws), below.shape[1] - 1)
    while np.any(first < last):
        middle = (first + last) // 2
        reached = (draws * below[:, middle].T).sum(axis=1) >= needed
        first, last = np.where(reached, first, middle + 1), np.where(reached, middle, last)
    return first


def clopper_pearson(errors: int, n: int, alpha: float) -> tuple[float, float]:
    """Return the one-sided lower and upper bounds of an error rate, each at confidence 1 - alpha."""
    low = float(stats.beta.ppf(alpha, errors, n - errors + 1)) if errors else 0.0
    high = float(stats.beta.ppf(1 - alpha, errors + 1, n - errors)) if errors < n else 1.0
    return low, high
