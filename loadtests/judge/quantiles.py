"""Exact, distribution-free statistics of a quantile and of an error rate; no assumption on latency's distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

BOOTSTRAPS = 400
GRID = 2000
INTERVAL = (0.025, 0.975)
MIN_WINDOWS = 10
LONG_RUN_S = 60

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def max_slow(n: int, quantile: float, alpha: float) -> int:
    """Return m = max{j : P(Bin(n, 1 - quantile) <= j) <= alpha}; -1 where even 0 slow prove nothing."""
    share = 1 - quantile
    if n <= 0 or special.bdtr(0, n, share) > alpha:
        return -1
    most = _near(alpha, n, share)
    while special.bdtr(most, n, share) > alpha:
        most -= 1
    while special.bdtr(most + 1, n, share) <= alpha:
        most += 1
    return most


def min_failing(n: int, quantile: float, alpha: float) -> int:
    """Return the least k with P(Bin(n, 1 - quantile) >= k) <= alpha; n + 1 where no k is."""
    if n <= 0:
        return n + 1
    share = 1 - quantile
    above = _near(1 - alpha, n, share)
    while above > 0 and special.bdtrc(above - 1, n, share) <= alpha:
        above -= 1
    while special.bdtrc(above, n, share) > alpha:
        above += 1
    return above + 1


def _near(probability: float, n: int, share: float) -> int:
    """Return a count about which the binomial distribution reaches a probability."""
    count = special.bdtrik(probability, n, share)
    return min(n, max(0, int(count))) if math.isfinite(count) else int(n * share)


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


def observed_quantile(values_ms: Floats, quantile: float) -> float:
    """Return the ceil(n q)-th smallest value: one that was measured, never interpolated."""
    place = max(0, math.ceil(len(values_ms) * quantile) - 1)
    return float(np.partition(values_ms, place)[place])


def observed_quantiles(samples_ms: Sequence[Floats], quantile: float) -> Floats:
    """Return the observed quantile of each of several samples, none of them empty."""
    sizes = np.array([len(sample) for sample in samples_ms])
    ordered = np.full((len(sizes), sizes.max()), np.inf)
    ordered[np.arange(sizes.max()) < sizes[:, None]] = np.concatenate(samples_ms)
    ordered.sort(axis=1)
    places = np.maximum(0, np.ceil(sizes * quantile).astype(np.int64) - 1)
    found: Floats = ordered[np.arange(len(sizes)), places]
    return found


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
    values = ordered[ranks.astype(np.int64)]
    grid: Floats = values[np.append(True, values[1:] > values[:-1])]
    sizes = np.bincount(window)
    # How many requests of each window are at most as slow as each place of the grid.
    places = window * len(grid) + np.searchsorted(grid, latency_ms)
    counts = np.bincount(places, minlength=len(sizes) * len(grid)).reshape(len(sizes), len(grid))
    below = np.cumsum(counts, axis=1, dtype=np.float64)[sizes > 0]
    draws = _window_draws(len(below), seed)
    needed: Floats = np.multiply(quantile, draws @ sizes[sizes > 0], dtype=np.float64)
    low, high = np.quantile(grid[_first_reaching(needed, draws, below)], INTERVAL, method="inverted_cdf")
    return float(low), float(high)


@lru_cache(maxsize=8)
def _window_draws(windows: int, seed: int) -> Ints:
    """Return how often each window is drawn in each draw."""
    draws: Ints = np.random.default_rng(seed).multinomial(windows, [1 / windows] * windows, BOOTSTRAPS)
    draws.setflags(write=False)
    return draws


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
    low = float(special.betaincinv(errors, n - errors + 1, alpha)) if errors else 0.0
    high = float(special.betaincinv(errors + 1, n - errors, 1 - alpha)) if errors < n else 1.0
    return low, high
