"""The rows of a training that drift is measured against, few enough to go with every version.

Of more rows than are kept, those with the lowest hashes are: the same rows of the same data, whatever its order, and of
data that has grown mostly those of before.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.packaging.snapshot import Snapshot, write_snapshot
from pipelines.packaging.training_rows import Hashes, hashes_of_values

# Of so many rows the share in a bin is known to 0.4 percentage points.
MOST_ROWS = 20_000
# The constants of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIXES = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST = np.uint64(31)


def write_reference(snapshot: Snapshot, path: Path, *, most: int = MOST_ROWS) -> str:
    """Write a snapshot, or `most` of its rows with the number of all, to `path`; return the file's digest."""
    rows = len(snapshot.frame)
    if rows <= most:
        kept, sampled_from = np.arange(rows), snapshot.sampled_from
    else:
        kept, sampled_from = _lowest(snapshot, most), snapshot.sampled_from or rows
    identities = None if snapshot.identities is None else snapshot.identities[kept]
    return write_snapshot(path, snapshot.frame.iloc[kept], snapshot.description, identities, sampled_from)


def _lowest(snapshot: Snapshot, most: int) -> "np.ndarray":
    """Return the positions of the rows with the lowest numbers, in their order, (most,).

    Rows that are equal are drawn each by itself: their number among the equal ones goes into the hash.
    """
    hashes = snapshot.identities
    if hashes is None:
        hashes = hashes_of_values(snapshot.frame, snapshot.description.features)
    numbers = pd.Series(hashes).groupby(hashes).cumcount().to_numpy(dtype=np.uint64)
    return np.sort(np.argsort(_mixed(hashes + numbers * _GAMMA), kind="stable")[:most])


def _mixed(numbers: Hashes) -> Hashes:
    """Return the numbers as SplitMix64 mixes them, so that near ones are far apart."""
    for shift, factor in _MIXES:
        numbers = (numbers ^ (numbers >> shift)) * factor
    return numbers ^ (numbers >> _LAST)
