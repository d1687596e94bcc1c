"""Numbers of texts, and which of them the model's input can't hold: training and serving send float32."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# The largest whole number that float64, which data is typed as, tells from its neighbours.
MAX_WHOLE = 2**53 - 1
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
# A decimal comma, and not one that may part thousands.
_COMMA = r"^[+-]?[0-9]*,([0-9]{1,2}|[0-9]{4,})$|^[+-]?0?,[0-9]+$"


def parsed(texts: pa.StringArray, decimal: str) -> NDArray[np.float64]:
    """Return the float64 nearest to each text; NaN where a text is no number."""
    valid = pc.match_substring_regex(texts, _NUMBER.replace(r"\.", "," if decimal == "," else r"\."))
    plain = pc.replace_substring(texts, ",", ".") if decimal == "," else texts
    numbers: NDArray[np.float64] = pc.if_else(valid, plain, None).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def shows_comma(texts: pa.StringArray) -> bool:
    """Tell whether texts hold numbers with a decimal comma for certain: `1,5` is one, `1,500` may be 1500."""
    return bool(pc.any(pc.match_substring_regex(texts, _COMMA)).as_py())


def is_whole(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which numbers are whole, however they are written."""
    whole: NDArray[np.bool_] = np.isfinite(numbers) & (numbers == np.round(numbers))
    return whole


def is_beyond_float32(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which numbers are too large for float32."""
    with np.errstate(over="ignore"):
        return ~np.isnan(numbers) & ~np.isfinite(numbers.astype(np.float32))


def is_beyond_whole(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which numbers are beyond 2^53 - 1, from where whole numbers are rounded to others."""
    beyond: NDArray[np.bool_] = np.abs(numbers) > MAX_WHOLE
    return beyond


def is_merged(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which whole numbers are, in float32, the same as another one among `numbers`."""
    distinct = np.unique(numbers[is_whole(numbers)])
    with np.errstate(over="ignore"):
        same = np.diff(distinct.astype(np.float32)) == 0.0
    merged = distinct[np.append(same, False) | np.insert(same, 0, False)] if len(distinct) > 1 else distinct[:0]
    return np.isin(numbers, merged)


def counts_rows(numbers: NDArray[np.float64]) -> bool:
    """Tell whether whole numbers number their rows, in any order: each another one, and none left out between."""
    distinct = np.unique(numbers)
    return len(distinct) == len(numbers) > 1 and bool(distinct[-1] - distinct[0] + 1 == len(numbers))
