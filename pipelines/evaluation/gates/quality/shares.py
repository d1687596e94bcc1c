"""Precision, recall and F1 of class numbers, and how much each row moves them, as in `metrics`."""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Share(StrEnum):
    """A share of right answers: among those answered with a class, among those of it, or the harmonic mean of both."""

    PRECISION = "precision"
    RECALL = "recall"
    F1 = "f1"


def class_shares(share: Share, predicted: "np.ndarray", truth: "np.ndarray", classes: int) -> "np.ndarray":
    """Return a share of right answers of each class (C,), 0 where there is nothing to share; both are class numbers."""
    import numpy as np

    above, below = _counted(share, predicted, truth, classes)
    found: np.ndarray = np.divide(above, below, out=np.zeros(classes), where=below > 0)
    return found


def mean_share(
    share: Share, predicted: "np.ndarray", truth: "np.ndarray", classes: int, positive: int | None = None
) -> float:
    """Return the share of the positive class, or the mean over the classes that are true or predicted of any row."""
    found = class_shares(share, predicted, truth, classes)
    return float(found @ _weights(predicted, truth, classes, positive))


def mean_share_influence(
    share: Share, predicted: "np.ndarray", truth: "np.ndarray", classes: int, positive: int | None = None
) -> "np.ndarray":
    """Return how much each row moves `mean_share`."""
    import numpy as np

    found = class_shares(share, predicted, truth, classes)
    _, below = _counted(share, predicted, truth, classes)
    scale = _weights(predicted, truth, classes, positive) * len(truth) / np.maximum(below, 1)
    right = predicted == truth
    of_true, of_answered = found[truth] * scale[truth], found[predicted] * scale[predicted]
    moved: np.ndarray = {
        Share.PRECISION: right * scale[predicted] - of_answered,
        Share.RECALL: right * scale[truth] - of_true,
        Share.F1: 2 * right * scale[truth] - of_true - of_answered,
    }[share]
    return moved


def _counted(
    share: Share, predicted: "np.ndarray", truth: "np.ndarray", classes: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Return of each class what a share is of (C,), and what it is divided by."""
    import numpy as np

    right = np.bincount(truth[predicted == truth], minlength=classes)
    answered, held = (np.bincount(each, minlength=classes) for each in (predicted, truth))
    if share is Share.PRECISION:
        return right, answered
    return (right, held) if share is Share.RECALL else (2 * right, answered + held)


def _weights(predicted: "np.ndarray", truth: "np.ndarray", classes: int, positive: int | None) -> "np.ndarray":
    import numpy as np

    if positive is not None:
        of_one: np.ndarray = np.eye(1, classes, positive)[0]
        return of_one
    present = np.bincount(np.r_[predicted, truth], minlength=classes) > 0
    weights: np.ndarray = present / max(int(present.sum()), 1)
    return weights
