"""How far rows are from rows of before: each feature by itself, and all together.

Both are effect sizes with intervals, which more rows make narrower and not larger. It knows frames and features alone,
so that what a service was asked is measured as training data is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.evaluation.gates.offline.rows import SEED
from pipelines.evaluation.gates.offline.rows import sampled as sampled_rows
from pipelines.evaluation.gates.quality.metrics import auc, auc_interval
from pipelines.packaging.served import model_values

# Of so many rows a side a distance is known to about 0.01.
MOST_ROWS = 20_000
# What a model is trained on that tells both sides apart: so many rows a side, and fewer of many features.
_MOST_TOLD_APART, _MOST_CELLS, _FEWEST_TOLD_APART = 4_000, 400_000, 500
_FOLDS = 5
_BINS, _ROWS_A_BIN, _MOST_BINS = 10, 10, 50
_MOST_CODES = 200
_TIMES = (FeatureType.DATE, FeatureType.DATETIME)
_NUMBERS = (FeatureType.INTEGER, FeatureType.NUMBER)

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Moved:
    """How far the values of one column have moved, 0 for not at all and 1 for no value in common.

    `missing` is the share of rows without a value, and `typical` the median (of a text, of its length) or the most
    frequent category, each before and now.
    """

    name: str
    type: str
    distance: float
    interval: tuple[float, float]
    missing: tuple[float, float]
    typical: tuple[str, str]


@dataclass(frozen=True)
class Apart:
    """How well a model tells rows of now from rows of before, as a ROC AUC: 0.5 is not at all; `rows` a side."""

    auc: float
    interval: tuple[float, float]
    rows: tuple[int, int]


@dataclass(frozen=True)
class Common:
    """The features that both sides have, those of now: some are `judged`, and dates and times may be `shown` only.

    `left_out` names those that one side has not, or otherwise.
    """

    judged: Sequence[Feature]
    shown: Sequence[Feature]
    left_out: Sequence[str]

    @classmethod
    def of(cls, before: Iterable[Feature], now: Sequence[Feature], *, judge_times: bool) -> "Common":
        """Return what can be compared; `judge_times` says whether dates and times are judged as numbers are."""
        held = {each.name: each for each in before}
        common = [each for each in now if _is_same(held.get(each.name), each)]
        names = {each.name for each in common}
        left_out = [name for name in dict.fromkeys((*held, *(each.name for each in now))) if name not in names]
        judged = [each for each in common if judge_times or each.type not in _TIMES]
        return cls(judged, [each for each in common if each not in judged], left_out)

    def moved(self, before: pd.DataFrame, now: pd.DataFrame) -> list[Moved]:
        """Return how far each judged feature has moved, with intervals that hold for all of them at once."""
        # By Bonferroni's inequality.
        return moved(before, now, self.judged, confidence=1 - 0.05 / max(1, len(self.judged)))


def sampled(frame: pd.DataFrame, most: int = MOST_ROWS) -> pd.DataFrame:
    """Return a frame, or `most` of its rows drawn by a constant seed."""
    return frame if len(frame) <= most else frame.iloc[sampled_rows(np.arange(len(frame)), most)]


def moved(
    before: pd.DataFrame, now: pd.DataFrame, features: Iterable[Feature], *, confidence: float = 0.95
) -> list[Moved]:
    """Return how far each feature has moved, the furthest first; each interval has the confidence by itself.

    Numbers, dates and times are compared in bins between the quantiles of the rows of before, texts by their length,
    and what is missing is a bin of its own. Raises ValueError for a value that is not of its feature's type.
    """
    found = [_moved(before[each.name], now[each.name], each, confidence) for each in features]
    return sorted(found, key=lambda each: (-each.interval[0], -each.distance, each.name))


def apart(before: pd.DataFrame, now: pd.DataFrame, features: Sequence[Feature]) -> Apart | None:
    """Return how well boosted trees tell rows of both sides apart; None where there are too few to try it.

    The AUC is of rows that the trees were not trained on, in five folds. Equal rows are in one fold, whichever side
    they are of, for a row that was seen on the other side tells nothing. After Lopez-Paz and Oquab, Revisiting
    Classifier Two-Sample Tests (2017), judged by its size instead of its significance.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    most = min(_MOST_TOLD_APART, max(_FEWEST_TOLD_APART, _MOST_CELLS // max(1, len(features))))
    sides = [sampled(frame, most) for frame in (before, now)]
    is_now = np.repeat([False, True], [len(side) for side in sides])
    columns = [_for_trees(sides[0][each.name], sides[1][each.name], each) for each in features]
    values = np.column_stack(columns)
    folds = (pd.util.hash_pandas_object(pd.DataFrame(values), index=False) % _FOLDS).to_numpy()
    scores = np.full(len(values), np.nan)
    for fold in range(_FOLDS):
        fit, told = folds != fold, folds == fold
        if not told.any():
            continue
        if is_now[fit].all() or not is_now[fit].any():
            return None
        trees = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=15, learning_rate=0.15, early_stopping=False, random_state=SEED,
            categorical_features=[each.type is FeatureType.CATEGORY for each in features],
        )  # fmt: skip
        # On a busy machine threads that wait for each other take many times as long as one.
        with threadpool_limits(1, user_api="openmp"):
            scores[told] = trees.fit(values[fit], is_now[fit]).predict_proba(values[told])[:, 1]
    found, rows = auc(scores, is_now), (len(sides[0]), len(sides[1]))
    return Apart(found, auc_interval(found, rows[1], rows[0]), rows)


def binned(before: "pd.Series[Any]", now: "pd.Series[Any]", feature: Feature) -> tuple[Codes, Codes]:
    """Return the bin of each value of both sides, (n,) and (m,), as numbers from 0 on.

    Raises ValueError for a value that is not of the feature's type.
    """
    if feature.type is FeatureType.CATEGORY:
        codes, _ = _category_codes(before, now)
        return codes[: len(before)], codes[len(before) :]
    values = [_numbers(side, feature) for side in (before, now)]
    known = values[0][~np.isnan(values[0])]
    bins = int(np.clip(min(map(len, values)) // _ROWS_A_BIN, 2, _BINS))
    # With the smallest and the largest value, for what lies beyond them.
    places = np.linspace(0, 1, bins + 1)
    edges = np.unique(np.quantile(known, places, method="inverted_cdf")) if len(known) else np.array([])
    # A value that many rows have is a bin of its own, such as the 0 of most rows or each of a few numbers.
    shares = np.array([np.mean(known == edge) for edge in edges])
    merged = [2 * at + (share >= 0.5 / bins) for at, share in enumerate(shares)]
    place = np.arange(2 * len(edges) + 2)
    place[1 : 2 * len(edges) : 2] = merged
    return place[_between(values[0], edges)], place[_between(values[1], edges)]


def distance(before: Codes, now: Codes, *, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Return the Jensen-Shannon distance of two samples of bins, and its interval.

    That is the square root of the divergence in bits (Lin, Divergence Measures Based on the Shannon Entropy, 1991;
    Endres and Schindelin, A New Metric for Probability Distributions, 2003): 0 to 1. Bins with fewer than ten rows of
    both samples are one.

    With n and m rows in k bins, 8 nm / (n + m) times the divergence in nats is a chi-square of k - 1 degrees of
    freedom, whose noncentrality is the same of the true divergence. The distance is without what chance adds, and the
    interval inverts the distribution (Steiger, Beyond the F Test, 2004): it holds 0 where nothing has moved, however
    few the rows are.
    """
    counts = _counts(before, now)
    n, m = len(before), len(now)
    p, q = counts[0] / n, counts[1] / m
    middle = (p + q) / 2
    nats = float(sum(np.sum(part[part > 0] * np.log(part[part > 0] / middle[part > 0])) for part in (p, q))) / 2
    scale = 8 * n * m / (n + m)
    freedom, tail = counts.shape[1] - 1, NormalDist().inv_cdf((1 + confidence) / 2)
    bounds = [_noncentrality(max(nats, 0.0) * scale, freedom, z) / scale for z in (tail, -tail)] if freedom else [0, 0]
    low, high = (_root(min(bound, np.log(2))) for bound in bounds)
    # Chance alone adds this much on the average.
    return _root(nats - freedom / scale), (low, high)


def _is_same(before: Feature | None, now: Feature) -> bool:
    return before is not None and (before.type is now.type or (before.type in _NUMBERS and now.type in _NUMBERS))


def _moved(before: "pd.Series[Any]", now: "pd.Series[Any]", feature: Feature, confidence: float) -> Moved:
    found, interval = distance(*binned(before, now, feature), confidence=confidence)
    missing = (float(before.isna().mean()), float(now.isna().mean()))
    typical = (_typical(before, feature), _typical(now, feature))
    return Moved(feature.name, feature.type.value, found, interval, missing, typical)


def _numbers(column: "pd.Series[Any]", feature: Feature) -> NDArray[np.float64]:
    """Return values as numbers, of a text its length, NaN for a missing one, rounded to what a model is given."""
    if feature.type is FeatureType.TEXT:
        lengths = [np.nan if missing else len(str(text)) for text, missing in zip(column, column.isna(), strict=True)]
        return np.array(lengths, dtype=np.float64)
    with np.errstate(over="ignore"):
        return model_values(column, feature).astype(np.float32).astype(np.float64)


def _between(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Codes:
    """Return 2i for what is below edge i and above those before it, 2i + 1 for edge i, the last number for NaN."""
    codes = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
    return np.where(np.isnan(values), 2 * len(edges) + 1, codes).astype(np.int64)


def _category_codes(before: "pd.Series[Any]", now: "pd.Series[Any]") -> tuple[Codes, int]:
    """Return the number of each category over both sides, the most frequent first, and of what is missing the last."""
    texts = np.concatenate([side.astype(object).where(side.notna(), None).to_numpy() for side in (before, now)])
    codes, names = pd.factorize(texts)
    order = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")
    rank = np.append(np.argsort(order), len(names))
    return rank[codes].astype(np.int64), len(names)


def _counts(before: Codes, now: Codes) -> NDArray[np.float64]:
    """Return how many rows of both sides each bin has, (2, k), the smallest ones in one."""
    size = int(max(before.max(), now.max())) + 1
    counts = np.array([np.bincount(side, minlength=size) for side in (before, now)], dtype=np.float64)
    total = counts.sum(axis=0)
    ranks = np.argsort(np.argsort(-total, kind="stable"))
    small = (total < _ROWS_A_BIN) | (ranks >= _MOST_BINS)
    joined = np.column_stack([counts[:, ~small], counts[:, small].sum(axis=1)])
    return joined[:, joined.sum(axis=0) > 0]


def _noncentrality(value: float, freedom: int, z: float) -> float:
    """Return the noncentrality of the chi-square of which `value` is the quantile at `z`; 0 where none is so small.

    By the normal approximation of Sankaran, On the non-central chi-square distribution (Biometrika 46, 1959), since
    SciPy's own takes seconds to import and fails at large numbers.
    """
    if _sankaran(value, freedom, 0.0) <= z:
        return 0.0
    low, high = 0.0, 4 * value + 100.0 * (1 + abs(z)) ** 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _sankaran(value, freedom, middle) > z else (low, middle)
    return low


def _sankaran(value: float, freedom: int, noncentrality: float) -> float:
    """Return the normal deviate of a value of a noncentral chi-square."""
    k, nc = freedom, noncentrality
    h = 1 - 2 * (k + nc) * (k + 3 * nc) / (3 * (k + 2 * nc) ** 2)
    p = (k + 2 * nc) / (k + nc) ** 2
    m = (h - 1) * (1 - 3 * h)
    mean = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
    return float(((value / (k + nc)) ** h - mean) / (h * np.sqrt(2 * p) * (1 + 0.5 * m * p)))


def _root(nats: float) -> float:
    return float(np.sqrt(max(0.0, nats) / np.log(2)))


def _typical(column: "pd.Series[Any]", feature: Feature) -> str:
    known = column.dropna()
    if not len(known):
        return "none"
    if feature.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
        return str(known.mode().iloc[0])
    middle = float(np.median(_numbers(known, feature)))
    if feature.type in (FeatureType.DATE, FeatureType.DATETIME):
        seconds = middle * 86_400 if feature.type is FeatureType.DATE else middle
        # In pandas there is none after 2262, and an open end is often 9999-12-31.
        return str(np.datetime_as_string(np.datetime64(round(seconds), "s"), unit="D"))
    return f"{middle:.4g}" + (" characters" if feature.type is FeatureType.TEXT else "")


def _for_trees(before: "pd.Series[Any]", now: "pd.Series[Any]", feature: Feature) -> NDArray[np.float64]:
    """Return both sides' values below one another as trees take them: NaN for missing, rare categories as one."""
    if feature.type is not FeatureType.CATEGORY:
        return np.concatenate([_numbers(side, feature) for side in (before, now)])
    codes, missing = _category_codes(before, now)
    return np.where(codes == missing, np.nan, np.minimum(codes, _MOST_CODES))
