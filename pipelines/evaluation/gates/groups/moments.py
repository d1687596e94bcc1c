"""Counts, sums and bounds over all slices of one feature or two at once, by products of matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.evaluation.gates.groups.bins import Binned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Bins of which every two are combined: what that takes grows with their square.
MOST_COMBINED = 400
# Rows of 0 and 1 that are held at once.
_CHUNK = 16_384
# Rows by which the spread within a slice is drawn to that of all rows: a few equal rows prove no certainty.
_PRIOR_ROWS = 10


@dataclass(frozen=True)
class Slices:
    """Slices by their bins: `pairs` (s, 2) are places of bins over all features, the same twice for one feature's.

    `counts` (s,) are their rows, and `sums` (w, s) those of each weight. `of` is how many they were chosen of.
    """

    names: tuple[tuple[str, str], ...]
    pairs: "NDArray[np.int64]"
    counts: "NDArray[np.float64]"
    sums: "NDArray[np.float64]"
    of: int

    def name(self, place: int) -> str:
        """Return how people call a slice."""
        bins = dict.fromkeys(self.pairs[place])
        return " and ".join(f"{self.names[each][0]} = {self.names[each][1]}" for each in bins)


def slices_of(features: Sequence[Binned], weights: "NDArray[np.float64]", minimum: int) -> Slices:
    """Return every slice by one or two features that has so many rows, is not all of them, and is no other's twin.

    `weights` is (w, n). Slices of the same rows are known by equal counts and sums; the one of one feature stays. Where
    there are too many bins, those of the features that tell most of the weights alone are combined.
    """
    import numpy as np

    names = tuple((each.feature, name) for each in features for name in each.names)
    starts = np.cumsum([0, *(len(each.names) for each in features)])
    rows = weights.shape[1]
    alone = np.concatenate([_sums_of(each, weights) for each in features], axis=1)
    combined = _combined(features, alone, weights)
    pairs, together = _crossed([features[each] for each in combined], starts[combined], weights)
    found = np.concatenate([alone, together], axis=1)
    # One feature's first.
    pairs = np.concatenate([np.repeat(np.arange(len(names))[:, None], 2, axis=1), pairs])
    kept = np.flatnonzero((found[0] >= minimum) & (found[0] < rows))
    _, distinct = np.unique(np.round(found[:, kept].T, 6), axis=0, return_index=True)
    kept = kept[np.sort(distinct)]
    sizes = np.diff(starts)
    passed_over = 0 if len(combined) == len(features) else int(sizes.sum() ** 2 - (sizes**2).sum()) // 2
    return Slices(names, pairs[kept], found[0, kept], found[1:, kept], len(kept) + passed_over)


def _sums_of(each: Binned, weights: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return the rows of each bin of a feature, and their sums of each weight, (w + 1, bins)."""
    import numpy as np

    counts = np.bincount(each.codes, minlength=len(each.names)).astype(np.float64)
    return np.array([counts, *(np.bincount(each.codes, weight, len(each.names)) for weight in weights)])


def _combined(
    features: Sequence[Binned], alone: "NDArray[np.float64]", weights: "NDArray[np.float64]"
) -> "NDArray[np.int64]":
    """Return the places of the features whose bins are combined: all, or those that a weight differs most by."""
    import numpy as np

    sizes = np.array([len(each.names) for each in features])
    if sizes.sum() <= MOST_COMBINED:
        return np.arange(len(features))
    total = weights.sum(axis=1)
    spread = np.maximum((weights**2).sum(axis=1) - total**2 / weights.shape[1], np.finfo(float).tiny)
    told = (alone[1:] ** 2 / np.maximum(alone[0], 1)).T
    between = np.add.reduceat(told, np.cumsum([0, *sizes[:-1]]), axis=0) - total**2 / weights.shape[1]
    order = np.argsort(-(between / spread).max(axis=1), kind="stable")
    return np.sort(order[np.cumsum(sizes[order]) <= MOST_COMBINED])


def _crossed(
    features: Sequence[Binned], starts: "NDArray[np.int64]", weights: "NDArray[np.float64]"
) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
    """Return every two bins of different features (s, 2), whose own begin at `starts`, with their sums (w + 1, s)."""
    import numpy as np

    sizes = [len(each.names) for each in features]
    owners, own = np.repeat(np.arange(len(features)), sizes), np.cumsum([0, *sizes])
    places = np.column_stack([each.codes + start for each, start in zip(features, own, strict=False)])
    total = np.zeros((len(weights) + 1, len(owners), len(owners)))
    for at in range(0, len(places), _CHUNK):
        part = places[at : at + _CHUNK]
        held = np.zeros((len(part), len(owners)))
        np.put_along_axis(held, part, 1.0, axis=1)
        total[0] += held.T @ held
        for number, weight in enumerate(weights, start=1):
            total[number] += held.T @ (held * weight[at : at + _CHUNK, None])
    first, second = np.triu_indices(len(owners), 1)
    apart = owners[first] != owners[second]
    first, second = first[apart], second[apart]
    # From their places among these features to those among all.
    moved = (starts - own[:-1])[owners] + np.arange(len(owners))
    return np.column_stack([moved[first], moved[second]]), total[:, first, second]


@dataclass(frozen=True)
class Bounds:
    """Means (s,) with their lower and upper bounds, which hold for all of them together."""

    mean: "NDArray[np.float64]"
    lower: "NDArray[np.float64]"
    upper: "NDArray[np.float64]"

    def less(self, off: "NDArray[np.float64]") -> "Bounds":
        """Return them with a number taken off each, (s,)."""
        return Bounds(self.mean - off, self.lower - off, self.upper - off)

    def at(self, place: int) -> tuple[float, float, float]:
        """Return mean, lower and upper bound of one of them."""
        return float(self.mean[place]), float(self.lower[place]), float(self.upper[place])


def bounds_of(
    counts: "NDArray[np.float64]",
    sums: "NDArray[np.float64]",
    squares: "NDArray[np.float64]",
    rows: "NDArray[np.float64]",
    level: float,
    *,
    against_the_rest: bool,
) -> Bounds:
    """Return by how much the mean of each slice (s,) is above that of all other rows, or above 0.

    `sums` and `squares` are those of the slices' values, `rows` (n,) the values of all rows. Bounds are one-sided by
    Student's t at `level`, Welch's for a difference. The variance within a slice is drawn to that of all rows by 10
    rows of it.
    """
    import numpy as np
    from scipy.stats import t

    spread = float(np.var(rows))
    mean = sums / counts
    within = (np.maximum(squares - counts * mean**2, 0) + _PRIOR_ROWS * spread) / (counts - 1 + _PRIOR_ROWS)
    error = within / counts
    if against_the_rest:
        others = len(rows) - counts
        elsewhere = (rows.sum() - sums) / others
        left = (np.maximum((rows**2).sum() - squares - others * elsewhere**2, 0) + _PRIOR_ROWS * spread) / (
            others + _PRIOR_ROWS
        )
        error = error + left / others
        mean = mean - elsewhere
    reach = t.isf(level, counts - 1) * np.sqrt(error)
    return Bounds(mean, mean - reach, mean + reach)
