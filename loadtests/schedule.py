"""Draw the intended send times of an open model: no arrival ever waits for a reply."""

from collections.abc import Iterator

import numpy as np

from loadtests.plan import Arrivals

CHUNK = 1024


def arrival_offsets(kind: Arrivals, rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
    """Yield endless ascending offsets in seconds from 0.

    Fixed arrivals begin after a random part of a gap, so that several workers interleave.
    """
    if kind is Arrivals.FIXED:
        phase = rng.random()
        count = 0
        while True:
            yield (phase + count) / rate_per_s
            count += 1
    start = 0.0
    while True:
        offsets = start + np.cumsum(rng.exponential(1 / rate_per_s, CHUNK))
        yield from offsets.tolist()
        start = float(offsets[-1])
