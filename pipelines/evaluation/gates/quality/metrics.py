"""Metrics of answers on rows, fast enough to be taken two thousand times over resampled rows.

Each takes the truth (n,) and what was answered, and returns one number. scikit-learn defines the same, and takes far
longer. `<metric>_influence` returns how much each row moves it (n,): the derivative by the row's share of all, whose
standard deviation / sqrt(n) is the metric's standard error (the infinitesimal jackknife, Efron 1982; of the AUC it is
the estimate of DeLong, DeLong & Clarke-Pearson 1988).
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING

from pipelines.evaluation.gates.offline.rows import SEED

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
# A probability of 0 would make the loss of one row infinite.
_LEAST = 1e-15


def bootstrapped(metric: "Callable[[np.ndarray], float | None]", rows: int) -> list[float]:
    """Return a metric of each of 2,000 samples of so many rows, drawn with replacement (Efron 1979).

    `metric` takes the positions of a sample's rows (rows,), and returns None for a sample that has no value.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    found: list[float] = []
    # A metric that hardly any sample has is not waited for.
    for _ in range(10 * RESAMPLES):
        value = metric(generator.integers(0, rows, rows))
        if value is not None:
            found.append(value)
        if len(found) == RESAMPLES:
            break
    return found


def auc(scores: "np.ndarray", positive: "np.ndarray") -> float:
    """Return the ROC AUC of scores (n,) as the Mann-Whitney statistic with midranks for ties (Hanley & McNeil 1982)."""
    return float(_placements(scores, positive)[positive].mean())


def auc_influence(scores: "np.ndarray", positive: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves the AUC."""
    import numpy as np

    found = _placements(scores, positive)
    share = float(positive.mean())
    moved: np.ndarray = (found - found[positive].mean()) / np.where(positive, share, 1 - share)
    return moved


def _placements(scores: "np.ndarray", positive: "np.ndarray") -> "np.ndarray":
    """Return of each row with which share of the other kind it stands in the right order, a tie by half, (n,)."""
    import numpy as np

    order, starts = _ties(scores)
    ranked = positive[order].astype(np.float64)
    sizes = np.diff(np.r_[starts, len(ranked)])
    of_kind = np.add.reduceat(ranked, starts)
    others = sizes - of_kind
    below = np.cumsum(others) - others / 2
    above = of_kind.sum() - np.cumsum(of_kind) + of_kind / 2
    found = np.empty(len(scores))
    found[order] = np.where(ranked > 0, np.repeat(below / others.sum(), sizes), np.repeat(above / of_kind.sum(), sizes))
    return found


def _ties(scores: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Return the ascending order of scores (n,), and where in it each group of equal ones begins."""
    import numpy as np

    order = np.argsort(scores)
    ranked = scores[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])


def auc_interval(observed: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a ROC AUC of so many rows of both kinds; it has a width at 0 and 1 as well.

    That is method 5 of Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic,
    part 2 (Statistics in Medicine 25, 2006): every AUC that Hanley and McNeil's variance puts within z of the observed.
    """
    z, mean = NormalDist().inv_cdf((1 + confidence) / 2), (positives + negatives) / 2 - 1

    def is_within(auc: float) -> bool:
        inner = 1 + mean * ((1 - auc) / (2 - auc) + auc / (1 + auc))
        return abs(auc - observed) <= z * math.sqrt(auc * (1 - auc) * inner / (positives * negatives))

    return _furthest(is_within, observed, 0.0), _furthest(is_within, observed, 1.0)


def _furthest(is_within: Callable[[float], bool], start: float, end: float) -> float:
    """Return the number furthest from `start`, towards `end`, that is within, where all before it are."""
    inside, outside = start, end
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_within(middle) else (inside, middle)
    return inside


def macro_auc(probabilities: "np.ndarray", truth: "np.ndarray") -> float | None:
    """Return the mean AUC of each class (n, C) against the others; None where the class numbers (n,) lack one."""
    import numpy as np

    classes = range(probabilities.shape[1])
    members = [truth == each for each in classes]
    if not all(each.any() and not each.all() for each in members):
        return None
    return float(np.mean([auc(probabilities[:, each], members[each]) for each in classes]))


def macro_auc_influence(probabilities: "np.ndarray", truth: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves the macro AUC."""
    import numpy as np

    moved: np.ndarray = np.zeros(len(truth))
    for each in range(probabilities.shape[1]):
        moved += auc_influence(probabilities[:, each], truth == each) / probabilities.shape[1]
    return moved


def average_precision(scores: "np.ndarray", positive: "np.ndarray") -> float:
    """Return the area under the steps of precision by recall (Zhu 2004): each positive's precision, averaged."""
    return float(_precisions(scores, positive)[0][positive].mean())


def average_precision_influence(scores: "np.ndarray", positive: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves the average precision.

    A row counts by itself if it is positive, and changes the precision at all positives that score no more.
    """
    import numpy as np

    at_row, order, starts, reached = _precisions(scores, positive)
    ranked = positive[order].astype(np.float64)
    sizes = np.diff(np.r_[starts, len(ranked)])
    found = np.add.reduceat(ranked, starts)
    at_score = at_row[order][starts]
    # What one more row at or above each group does to the precision of its positives, summed from the lowest on.
    more_right = np.cumsum(found * (1 - at_score) / reached)
    more_wrong = np.cumsum(-found * at_score / reached)
    moved = np.empty(len(scores))
    moved[order] = np.where(ranked > 0, np.repeat(more_right, sizes), np.repeat(more_wrong, sizes))
    value = float(at_row[positive].mean())
    return (moved + positive * (at_row - value)) / float(positive.mean())


def _precisions(scores: "np.ndarray", positive: "np.ndarray") -> "tuple[np.ndarray, ...]":
    """Return the precision among the rows that score at least as much as each (n,).

    And the order of the rows with its groups of ties, and how many rows reach each group.
    """
    import numpy as np

    order, starts = _ties(scores)
    ranked = positive[order].astype(np.float64)
    sizes = np.diff(np.r_[starts, len(ranked)])
    reached = len(ranked) - starts
    right = np.cumsum(np.add.reduceat(ranked, starts)[::-1])[::-1]
    at_row = np.empty(len(scores))
    at_row[order] = np.repeat(right / reached, sizes)
    return at_row, order, starts, reached


def log_losses(probabilities: "np.ndarray", truth: "np.ndarray") -> "np.ndarray":
    """Return the negative logarithm of the true class's probability of each row, (n,)."""
    import numpy as np

    found = probabilities[np.arange(len(truth)), truth] / probabilities.sum(axis=1)
    return np.asarray(-np.log(np.clip(found, _LEAST, 1.0)))


def binary_log_losses(scores: "np.ndarray", positive: "np.ndarray") -> "np.ndarray":
    """Return the same of two classes, by the probability of the positive one (n,)."""
    import numpy as np

    return np.asarray(-np.log(np.clip(np.where(positive, scores, 1 - scores), _LEAST, 1.0)))


def log_loss(probabilities: "np.ndarray", truth: "np.ndarray") -> float:
    """Return the mean negative logarithm of the true class's probability."""
    return float(log_losses(probabilities, truth).mean())


def centred(losses: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves the mean of what rows have, (n,)."""
    moved: np.ndarray = losses - losses.mean()
    return moved


def rmse(truth: "np.ndarray", values: "np.ndarray") -> float:
    """Return the root of the mean squared error."""
    import numpy as np

    return float(np.sqrt(np.mean((truth - values) ** 2)))


def mae(truth: "np.ndarray", values: "np.ndarray") -> float:
    """Return the mean absolute error."""
    import numpy as np

    return float(np.mean(np.abs(truth - values)))


def r2(truth: "np.ndarray", values: "np.ndarray") -> float | None:
    """Return the share of the variance that is explained, None where there is none."""
    import numpy as np

    # The mean of equal values may be another one by a rounding.
    if np.ptp(truth) == 0:
        return None
    spread = float(np.sum((truth - truth.mean()) ** 2))
    return 1 - float(np.sum((truth - values) ** 2)) / spread if spread > 0 else None


def rmse_influence(truth: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves the RMSE."""
    found = rmse(truth, values)
    return centred((truth - values) ** 2) / (2 * found) if found > 0 else 0.0 * truth


def r2_influence(truth: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
    """Return how much each row moves R2."""
    squared, spread = (truth - values) ** 2, (truth - truth.mean()) ** 2
    unexplained = squared.mean() / spread.mean()
    moved: np.ndarray = (unexplained * spread - squared) / spread.mean()
    return moved
