"""Metrics of answers on rows, fast enough to be taken two thousand times over resampled rows.

Each takes the truth (n,) and what was answered, and returns one number. scikit-learn defines the same, and takes far
longer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
SEED = 20_240_501
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
    import numpy as np

    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ends = np.r_[starts[1:], len(ranked)]
    midranks = np.repeat((starts + ends + 1) / 2, ends - starts)
    n_positive = int(positive.sum())
    rank_sum = float(midranks[positive[order]].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(positive) - n_positive))


def macro_auc(probabilities: "np.ndarray", truth: "np.ndarray") -> float | None:
    """Return the mean AUC of each class (n, C) against the others; None where the class numbers (n,) lack one."""
    import numpy as np

    classes = range(probabilities.shape[1])
    members = [truth == each for each in classes]
    if not all(each.any() and not each.all() for each in members):
        return None
    return float(np.mean([auc(probabilities[:, each], members[each]) for each in classes]))


def macro_f1(predicted: "np.ndarray", truth: "np.ndarray", classes: int) -> float:
    """Return the mean F1 of each class that is true or predicted of any row; both are class numbers (n,)."""
    import numpy as np

    table = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    total = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * np.diag(table)[total > 0] / total[total > 0]))


def log_loss(probabilities: "np.ndarray", truth: "np.ndarray") -> float:
    """Return the mean negative logarithm of the true class's probability."""
    import numpy as np

    found = probabilities[np.arange(len(truth)), truth] / probabilities.sum(axis=1)
    return float(-np.mean(np.log(np.clip(found, _LEAST, 1.0))))


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

    spread = float(np.sum((truth - truth.mean()) ** 2))
    return 1 - float(np.sum((truth - values) ** 2)) / spread if spread > 0 else None
