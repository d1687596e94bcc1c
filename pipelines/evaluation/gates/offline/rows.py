"""How many rows a measurement takes: with fewer, what was measured proves nothing; of many, some are drawn."""

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 20_240_501
Z_95 = NormalDist().inv_cdf(0.975)
FEWEST_ROWS = 30
# A class with fewer rows says nothing of how it is told from others.
FEWEST_OF_A_CLASS = 10
FEWEST_ROWS_MEANS = "with fewer evaluation rows, those left out not counted, nothing is decided"


def refused_beside(refused: int) -> str:
    """Say beside a result how many more rows the service would not take as requests, where there are any."""
    return f" ({refused:,} more rows are none that it takes)" if refused else ""


def too_few(rows: int, minimum: int) -> str:
    """Say that so many rows are too few."""
    return f"on {rows:,} evaluation rows, fewer than {minimum:,}"


def sampled(rows: "NDArray[np.int64]", most: int) -> "NDArray[np.int64]":
    """Return the rows (n,), or where there are more than `most` so many of them, the same ones each time."""
    import numpy as np

    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


def wilson(count: float, rows: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a share, `count` of so many rows, at the normal quantile `z`, of 95 % (Wilson 1927)."""
    middle, spread = 2 * count + z * z, z * math.sqrt(max(0.0, z * z + 4 * count * (rows - count) / rows))
    low, high = ((middle + side) / (2 * (rows + z * z)) for side in (-spread, spread))
    return low if count > 0 else 0.0, high if count < rows else 1.0
