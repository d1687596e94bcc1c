"""Intervals of metrics, and of how much better one model's is than another's on the same rows.

Few rows are resampled; of many, the influence of each row says the same at once, with no row left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from pipelines.evaluation.gates.quality.metrics import RESAMPLES, bootstrapped

if TYPE_CHECKING:
    import numpy as np

# So many numbers are resampled two thousand times within a second. Beyond it, both ways agree to a few hundredths.
MOST_RESAMPLED = 5_000
_LEAST_ERROR = 1e-12


@dataclass(frozen=True)
class Metric:
    """A number that a model's answers (n, ...) have by the truth (n,), and how much each row moves it, (n,).

    `value` returns None where the rows have no such number; `influence` is asked only where they have one.
    """

    value: Callable[["np.ndarray", "np.ndarray"], float | None]
    influence: Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    interval: tuple[float, float]


def estimated(metric: Metric, answers: "np.ndarray", truth: "np.ndarray", coverage: float = 0.95) -> Estimate | None:
    """Return a metric with its two-sided interval, None where the rows, or most of their resamples, have none."""
    value = metric.value(answers, truth)
    if value is None:
        return None
    if answers.size > MOST_RESAMPLED:
        return _by_influence(float(value), metric.influence(answers, truth), coverage)
    return _by_resamples(float(value), lambda rows: metric.value(answers[rows], truth[rows]), len(truth), coverage)


def better(
    metric: Metric, ours: "np.ndarray", theirs: "np.ndarray", truth: "np.ndarray", *, relative: bool
) -> Estimate | None:
    """Return how much better our answers are, with its one-sided 95 % bounds; None as `estimated` does.

    `relative` is of metrics that are better when lower, whose difference is a share of theirs.
    """

    def difference(rows: "np.ndarray | slice") -> float | None:
        one, other = metric.value(ours[rows], truth[rows]), metric.value(theirs[rows], truth[rows])
        if one is None or other is None:
            return None
        # A champion that never errs leaves no share; any error is then far worse.
        return (other - one) / max(other, _LEAST_ERROR) if relative else one - other

    value = difference(slice(None))
    if value is None:
        return None
    if ours.size <= MOST_RESAMPLED:
        return _by_resamples(float(value), difference, len(truth), 0.9)
    moved, against = metric.influence(ours, truth), metric.influence(theirs, truth)
    if relative:
        other = max(metric.value(theirs, truth) or 0.0, _LEAST_ERROR)
        return _by_influence(float(value), ((1 - value) * against - moved) / other, 0.9)
    return _by_influence(float(value), moved - against, 0.9)


def _by_influence(value: float, influence: "np.ndarray", coverage: float) -> Estimate:
    half = NormalDist().inv_cdf((1 + coverage) / 2) * float(influence.std()) / len(influence) ** 0.5
    return Estimate(value, (value - half, value + half))


def _by_resamples(
    value: float, metric: "Callable[[np.ndarray], float | None]", rows: int, coverage: float
) -> Estimate | None:
    import numpy as np

    found = bootstrapped(metric, rows)
    if len(found) < RESAMPLES // 2:
        return None
    low, high = np.quantile(found, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Estimate(value, (float(low), float(high)))
