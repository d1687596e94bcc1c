"""Cuts the values of each feature into few bins, which people can name: what slices and groups are made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

# Values are bins of their own where there are no more of them; of texts the most common ones are.
MOST_VALUES = 8
MISSING = "missing"
_OTHERS = "any other value"


@dataclass(frozen=True)
class Binned:
    """The rows by their values of a feature: `codes` (n,) are places in `names`, of which each has a row."""

    feature: str
    names: tuple[str, ...]
    codes: "NDArray[np.int64]"


def binned(frame: "pd.DataFrame", features: Iterable[Feature]) -> list[Binned]:
    """Return the bins of every feature that has a column.

    A category is a bin by its value, a number by its value where there are few, and else by quarters of the rows, a
    date by its year, a text by the quarter of its length. What is missing is a bin of its own.
    """
    return [bins_of(frame[each.name], each) for each in features if each.name in frame.columns]


def bins_of(column: "pd.Series[Any]", feature: Feature) -> Binned:
    """Return the bins of one feature's values (n,)."""
    import numpy as np

    missing = column.isna().to_numpy()
    codes = np.full(len(column), -1)
    names: list[str] = []
    if not missing.all():
        codes[~missing], names = _known(column[~missing], feature)
    if missing.any():
        codes[missing] = len(names)
        names = [*names, MISSING]
    return Binned(feature.name, tuple(names), codes)


def _known(column: "pd.Series[Any]", feature: Feature) -> "tuple[NDArray[np.int64], list[str]]":
    import numpy as np
    import pandas as pd

    from pipelines.packaging.served import model_values

    if feature.type.is_text:
        texts = column.astype(str).to_numpy(dtype=object)
        codes, values = pd.factorize(texts, sort=True)
        if feature.type is FeatureType.CATEGORY or len(values) <= MOST_VALUES:
            return _most_common(codes, [str(value) for value in values])
        lengths = np.array([len(text) for text in texts], dtype=np.float64)
        return _by_value(lengths, " characters") or _by_quantiles(lengths, " characters")
    if feature.type is FeatureType.BOOLEAN:
        truths, codes = np.unique(column.to_numpy(dtype=bool), return_inverse=True)
        return codes, ["true" if value else "false" for value in truths]
    numbers = model_values(column, feature)
    if feature.type in (FeatureType.DATE, FeatureType.DATETIME):
        return _by_time(numbers, seconds=1 if feature.type is FeatureType.DATETIME else 86_400)
    return _by_value(numbers) or _by_quantiles(numbers)


def _most_common(codes: "NDArray[np.int64]", names: list[str]) -> "tuple[NDArray[np.int64], list[str]]":
    """Keep the most common values, and put all others into one bin."""
    import numpy as np

    if len(names) <= MOST_VALUES:
        return codes, names
    order = np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable")
    place = np.full(len(names), MOST_VALUES - 1)
    place[order[: MOST_VALUES - 1]] = np.arange(MOST_VALUES - 1)
    return place[codes], [*(names[each] for each in order[: MOST_VALUES - 1]), _OTHERS]


def _by_value(numbers: "NDArray[np.float64]", unit: str = "") -> "tuple[NDArray[np.int64], list[str]] | None":
    import numpy as np

    values, codes = np.unique(numbers, return_inverse=True)
    return (codes, [f"{value:g}{unit}" for value in values]) if len(values) <= MOST_VALUES else None


def _by_quantiles(numbers: "NDArray[np.float64]", unit: str = "") -> "tuple[NDArray[np.int64], list[str]]":
    """Cut at the quartiles, of few rows at the median; one value that many rows have lies in one bin alone."""
    import numpy as np

    parts_wanted = 4 if len(numbers) >= 8 * FEWEST_ROWS else 2
    cuts = np.unique(np.quantile(numbers, np.arange(1, parts_wanted) / parts_wanted, method="inverted_cdf"))
    codes = np.searchsorted(cuts, numbers, side="left")
    held, codes = np.unique(codes, return_inverse=True)
    parts = [numbers[codes == each] for each in range(len(held))]
    return codes, [f"{part.min():.6g} to {part.max():.6g}{unit}" for part in parts]


def _by_time(numbers: "NDArray[np.float64]", *, seconds: int) -> "tuple[NDArray[np.int64], list[str]]":
    import numpy as np

    moments = np.floor(numbers * seconds).astype("datetime64[s]")
    years, codes = np.unique(moments.astype("datetime64[Y]"), return_inverse=True)
    if 1 < len(years) <= MOST_VALUES:
        return codes, [str(year) for year in years]
    codes, names = _by_quantiles(numbers)
    parts = [moments[codes == each].astype("datetime64[D]") for each in range(len(names))]
    return codes, [f"{part.min()} to {part.max()}" for part in parts]
