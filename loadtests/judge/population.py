"""Say which requests count against a limit, and when each was due: in which window of which stage of the load.

A stage is a time in which the load was planned to be the same, or nearly: its windows can be compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadtests.judge.quantiles import window_length_s
from loadtests.plan.shapes import Shape
from loadtests.samples import Look

# One window has none to differ from.
MIN_STAGE_WINDOWS = 2
# A rate that moves all the time is nearly the same in each of so many parts.
MOVING_PARTS = 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """The latencies that count with the number of each one's window, and the number of each window's stage.

    The windows of all looks follow one another; a stage has the same number in each look.
    """

    latency_ms: Floats
    window: Ints
    stage: Ints

    @classmethod
    def of(cls, looks: Sequence[Look], shape: Shape, limit_ms: float) -> "Population":
        """Take all requests but quick errors: these must not flatter a quantile.

        An error that was slower than the limit, or never got a reply (infinite), stays: it is a slow request as well.
        """
        length_s = window_length_s(sum(look.duration_s for look in looks))
        latencies, windows, stages = [], [], []
        first = 0
        for look in looks:
            edges_s, stage = _windows(shape, look.duration_s, length_s)
            kept = ~look.failed | ~look.answered | (look.latency_ms > limit_ms)
            since_s = look.intended_s[kept] - look.window.measured_from_s
            latencies.append(look.latency_ms[kept])
            windows.append(first + np.digitize(since_s, edges_s[1:-1]))
            stages.append(stage)
            first += len(stage)
        return cls(np.concatenate(latencies), np.concatenate(windows), np.concatenate(stages))

    def slow_per_window(self, limit_ms: float) -> Floats:
        """Count the requests slower than the limit in each window."""
        return np.bincount(self.window[self.latency_ms > limit_ms], minlength=len(self.stage)).astype(float)


def _windows(shape: Shape, duration_s: float, length_s: float) -> tuple[Floats, Ints]:
    """Return the edges of a look's windows, which are about so long, and the stage that each window lies in."""
    parts: list[Floats] = []
    for begin_s, end_s in pairwise(_stage_edges_s(shape, duration_s)):
        count = max(MIN_STAGE_WINDOWS, int((end_s - begin_s) / length_s + 1e-9))
        parts.append(np.linspace(begin_s, end_s, count, endpoint=False))
    stage = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate([*parts, [duration_s]]), stage


def _stage_edges_s(shape: Shape, duration_s: float) -> Iterator[float]:
    yield 0.0
    for stage in shape.stages(duration_s):
        moving = stage.from_rate != stage.until_rate
        edges_s = np.linspace(stage.from_s, stage.until_s, MOVING_PARTS + 1 if moving else 2)
        yield from edges_s[1:].tolist()
