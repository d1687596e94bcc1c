"""What a feature tells of the target all by itself, and whether it numbers the rows instead of describing them."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import pdtr

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.evaluation.drift import Codes, binned
from pipelines.evaluation.gates.offline.rows import FEWEST_OF_A_CLASS, SEED
from pipelines.evaluation.gates.quality.metrics import auc, auc_interval, r2
from pipelines.packaging.served import model_values

_FOLDS = 5
# Of texts and categories, so many rows have one of their own; and an id has no blanks and so many characters at most.
_OWN_SHARE, _ID_SHARE, _MOST_ID_CHARS = 0.95, 0.95, 64
# That fewer numbers are equal than these by chance has to be so unlikely.
_UNLIKELY = 1e-4


@dataclass(frozen=True)
class Alone:
    """How well a feature alone predicts, as ROC AUC (of the class that it tells worst) or as R2, with its interval."""

    name: str
    type: str
    score: float
    interval: tuple[float, float]


def of_classes(column: "pd.Series[Any]", feature: Feature, truth: Codes, confidence: float) -> Alone | None:
    """Return the AUC of a feature for class numbers (n,); None where fewer than two classes have rows enough.

    A class is told by the order of the values, or by its share in the bin or category that a row is in: on the rows
    of four of five folds for those of the fifth. So a feature counts as well that is no monotone function of the class.
    """
    sizes = np.bincount(truth)
    classes = np.flatnonzero(sizes >= FEWEST_OF_A_CLASS)
    if len(classes) < 2:
        return None
    # Of two classes the one is told as the other is.
    told = classes[1:] if len(classes) == len(np.flatnonzero(sizes)) == 2 else classes
    numbers, bins = _ordered(column, feature), _bins(column, feature)
    scores = []
    for each in told:
        member = truth == each
        found = [auc(numbers, member)] if numbers is not None else []
        ordered = [max(score, 1 - score) for score in found]
        scores.append((max([*ordered, *(auc(_shares(code, member), member) for code in bins)]), int(member.sum())))
    intervals = [auc_interval(score, size, len(truth) - size, confidence) for score, size in scores]
    worst = min(range(len(scores)), key=lambda at: intervals[at][0])
    return Alone(feature.name, feature.type.value, scores[worst][0], intervals[worst])


def of_numbers(column: "pd.Series[Any]", feature: Feature, truth: "NDArray[np.float64]", confidence: float) -> Alone:
    """Return the R2 of a feature for the values of a regression (n,).

    It is the square of Pearson's or Spearman's correlation, or what the mean of the bin or category explains on rows of
    another fold. The interval is Fisher's of the correlation (Fisher 1921).
    """
    numbers = _ordered(column, feature)
    found = [r2(truth, _shares(code, truth)) or 0.0 for code in _bins(column, feature)]
    if numbers is not None and np.ptp(numbers) > 0 and np.ptp(truth) > 0:
        ranks = [pd.Series(each).rank().to_numpy() for each in (numbers, truth)]
        found += [float(np.corrcoef(*pair)[0, 1]) ** 2 for pair in ((numbers, truth), ranks)]
    score = min(1.0, max(0.0, *found))
    return Alone(feature.name, feature.type.value, score, explained_interval(score, len(truth), confidence))


def explained_interval(share: float, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of an R2 of so many rows, by Fisher's of its root, the correlation."""
    if share >= 1 or rows <= 3:
        return (1.0, 1.0) if share >= 1 else (0.0, 1.0)
    middle = math.atanh(math.sqrt(max(0.0, share)))
    width = NormalDist().inv_cdf((1 + confidence) / 2) / math.sqrt(rows - 3)
    return math.tanh(max(0.0, middle - width)) ** 2, math.tanh(middle + width) ** 2


def numbers_rows(column: "pd.Series[Any]", feature: Feature, fewest: int) -> bool:
    """Whether a feature has a value of its own in nearly each of at least `fewest` rows, as an id has.

    A text has to look like one as well: without blanks, and short. Whole numbers that are spread evenly over their
    range have the fewest equal ones; they are an id where even so many are far fewer than by chance. Numbers with
    decimals are none.
    """
    known = column.dropna()
    rows = len(known)
    if rows < fewest:
        return False
    distinct = int(known.nunique())
    if feature.type in (FeatureType.INTEGER, FeatureType.NUMBER):
        values = known.to_numpy(dtype=np.float64)
        if (values != np.round(values)).any():
            return False
        counts = known.value_counts().to_numpy()
        pairs = int((counts * (counts - 1) // 2).sum())
        expected = rows * (rows - 1) / 2 / (float(np.ptp(values)) + 1)
        return float(pdtr(pairs, expected)) < _UNLIKELY
    if not feature.type.is_text or distinct < _OWN_SHARE * rows:
        return False
    if feature.type is FeatureType.CATEGORY:
        return True
    texts = [str(text) for text in known]
    return sum(" " not in text and len(text) <= _MOST_ID_CHARS for text in texts) >= _ID_SHARE * rows


def with_others(frame: pd.DataFrame, name: str, others: "pd.Series[Any]") -> pd.DataFrame:
    """Return the rows with the values of other rows in one column: theirs in turn, moved by one."""
    changed = frame.copy()
    changed[name] = np.resize(np.roll(others.dropna().to_numpy(), 1), len(frame))
    return changed


def _ordered(column: "pd.Series[Any]", feature: Feature) -> "NDArray[np.float64] | None":
    """Return numbers in the order of the values, missing ones the lowest; None where texts have no order."""
    if feature.type.is_text:
        return None
    values = model_values(column, feature).astype(np.float64)
    known = values[~np.isnan(values)]
    return np.where(np.isnan(values), (known.min() if len(known) else 0.0) - 1, values)


def _bins(column: "pd.Series[Any]", feature: Feature) -> list[Codes]:
    """Return the bins of the values; of a text those of its length, and the text itself."""
    found = [binned(column, column, feature)[0]]
    if feature.type is FeatureType.TEXT:
        found.append(binned(column, column, replace(feature, type=FeatureType.CATEGORY))[0])
    return found


def _shares(codes: Codes, values: "NDArray[Any]") -> "NDArray[np.float64]":
    """Return of each row the mean of `values` in its bin by the rows of the other folds, drawn to the mean of all."""
    folds = np.random.default_rng(SEED).permutation(len(codes)) % _FOLDS
    found = np.empty(len(codes))
    size = int(codes.max()) + 1
    for fold in range(_FOLDS):
        told, fit = folds == fold, folds != fold
        sums = np.bincount(codes[fit], weights=values[fit].astype(np.float64), minlength=size)
        counts = np.bincount(codes[fit], minlength=size)
        prior = float(values[fit].mean()) if fit.any() else 0.0
        found[told] = ((sums + prior) / (counts + 1))[codes[told]]
    return found
