"""Draw the intended send times of an open model: no arrival ever waits for a reply."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.plan import Arrivals
from loadtests.plan.shapes import Course

CHUNK = 1024


def course_offsets(kind: Arrivals, course: Course, rng: np.random.Generator) -> Iterator[float]:
    """Yield endless ascending offsets in seconds from 0, by arrivals at rate 1 in the course's own time.

    Fixed arrivals begin after a random part of a gap, so that several workers interleave.
    """
    for counts in _counts(kind, rng):
        yield from course.moments(counts).tolist()


def _counts(kind: Arrivals, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield the arrivals of a process of rate 1, a chunk at a time."""
    reached = rng.random() - 1 if kind is Arrivals.FIXED else 0.0
    while True:
        gaps = np.ones(CHUNK) if kind is Arrivals.FIXED else rng.exponential(1.0, CHUNK)
        counts: NDArray[np.float64] = reached + np.cumsum(gaps)
        yield counts
        reached = float(counts[-1])
