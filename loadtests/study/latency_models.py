"""Latency models that are known: services that drift and pause, what makes one slower, and slow requests in bursts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Service:
    """A lognormal latency whose level drifts, with pauses that hold back whatever arrives in them."""

    median_ms: float
    sigma: float
    drift: float
    pauses_per_s: float
    pause_s: float

    def latency_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        """Return a latency for each of the evenly spaced arrivals."""
        level = _drift(int(due_s[-1]) + 2, rng)[due_s.astype(np.int64)] * self.drift
        latency_ms: Floats = self.median_ms * np.exp(level + self.sigma * rng.standard_normal(len(due_s)))
        return latency_ms + self._held_ms(due_s, rng)

    def _held_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        held_ms = np.zeros(len(due_s))
        pauses = rng.poisson(self.pauses_per_s * due_s[-1])
        for begin_s, length_s in zip(
            rng.uniform(0, due_s[-1], pauses), rng.exponential(self.pause_s, pauses), strict=True
        ):
            first, last = np.searchsorted(due_s, (begin_s, begin_s + length_s))
            held_ms[first:last] += (begin_s + length_s - due_s[first:last]) * 1000
        return held_ms


SERVICES: Mapping[str, Service] = {
    "steady": Service(1.0, 0.5, 0.0, 0.0, 0.0),
    "drifting": Service(1.0, 0.5, 0.2, 0.0, 0.0),
    "pausing": Service(1.0, 0.5, 0.1, 0.2, 0.02),
}


@dataclass(frozen=True)
class Change:
    """What makes a candidate differ: slower requests by chance, or pauses of its own."""

    slower_ms: float = 0.0
    slower_share: float = 0.0
    pauses_per_s: float = 0.0
    pause_s: float = 0.0

    def added_ms(self, due_s: Floats, rng: np.random.Generator) -> Floats:
        """Return what the change adds to each request."""
        pauses = Service(0.0, 0.0, 0.0, self.pauses_per_s, self.pause_s)
        slower: Floats = np.where(rng.random(len(due_s)) < self.slower_share, self.slower_ms, 0.0)
        return slower + pauses.latency_ms(due_s, rng)


# The same version, one slower by 20 ms in 2 % of its requests, and one that pauses for 0.2 s every 10 s.
CHANGES: Mapping[str, Change] = {
    "same": Change(),
    "slower": Change(slower_ms=20, slower_share=0.02),
    "pauses": Change(pauses_per_s=0.1, pause_s=0.2),
}


def bursts(n: int, share: float, burst: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark slow runs of geometric length, at random places and n * share / burst of them on average."""
    slow = np.zeros(n, dtype=bool)
    for start in rng.integers(n, size=rng.poisson(-np.log1p(-share) * n / burst)):
        slow[start : start + rng.geometric(1 / burst)] = True
    return slow


def _drift(seconds: int, rng: np.random.Generator) -> Floats:
    """Return a level of standard deviation 1 that forgets itself within about ten seconds."""
    steps = rng.standard_normal(seconds)
    for second in range(1, seconds):
        steps[second] = 0.9 * steps[second - 1] + np.sqrt(1 - 0.81) * steps[second]
    return steps
