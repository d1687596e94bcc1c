"""Turns decoded rows into what the ONNX model takes: missing values become NaN or an empty text, dates numbers."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from app.model.description import Description, Dtype, Feature, FeatureType

NUMPY_TYPES: dict[Dtype, Any] = {
    Dtype.FLOAT32: np.float32,
    Dtype.FLOAT64: np.float64,
    Dtype.INT64: np.int64,
    Dtype.BOOL: np.bool_,
    Dtype.STRING: np.object_,
}
_FIRST_DAY = date(1970, 1, 1)
Feed = dict[str, Any]
Convert = Callable[[Any], Any]


class ModelInputs:
    """Fills the inputs of one model from rows whose attributes stand in the order of its features."""

    def __init__(self, description: Description, attributes: Sequence[str]) -> None:
        # With one name attrgetter returns the value itself, not a tuple of one.
        many = attrgetter(*attributes)
        self._read: Callable[[msgspec.Struct], tuple[Any, ...]] = (
            many if len(attributes) > 1 else lambda row: (getattr(row, attributes[0]),)
        )
        self._inputs = description.onnx.inputs
        self._converts = [_convert(feature) for feature in description.features]
        self._position = {feature.name: position for position, feature in enumerate(description.features)}
        # Filled for every single row: making arrays anew costs a third of the scoring. One thread only.
        self._feed: Feed = {
            each.name: np.empty((1, len(each.features)), dtype=NUMPY_TYPES[each.dtype]) for each in self._inputs
        }
        views = {
            name: self._feed[each.name][:, column : column + 1]
            for each in self._inputs
            for column, name in enumerate(each.features)
        }
        self._cells = [views[feature.name] for feature in description.features]

    def of_row(self, row: msgspec.Struct) -> Feed:
        """Return the inputs of one row, valid until the next call."""
        for cell, convert, value in zip(self._cells, self._converts, self._read(row), strict=True):
            cell[0, 0] = convert(value) if convert else value
        return self._feed

    def of_rows(self, rows: Sequence[msgspec.Struct]) -> Feed:
        """Return the inputs of N rows, of shape (N, n) each; for any thread."""
        columns = list(zip(*map(self._read, rows), strict=True))
        return {each.name: self._columns(each.features, NUMPY_TYPES[each.dtype], columns) for each in self._inputs}

    def _columns(self, names: Sequence[str], dtype: Any, columns: Sequence[Sequence[Any]]) -> Any:
        made = []
        for name in names:
            position = self._position[name]
            convert, column = self._converts[position], columns[position]
            made.append(np.array([convert(value) for value in column] if convert else column, dtype=dtype))
        return made[0].reshape(-1, 1) if len(made) == 1 else np.column_stack(made)


def _convert(feature: Feature) -> Convert | None:
    """Return how a value of a feature becomes an element of an input, None for as it is."""
    missing: Any = "" if feature.type in (FeatureType.CATEGORY, FeatureType.TEXT) else math.nan
    plain: Convert | None = {FeatureType.DATE: _days, FeatureType.DATETIME: _seconds}.get(feature.type)
    if not feature.nullable:
        return plain
    if plain is None:
        return lambda value: missing if value is None else value
    return lambda value: missing if value is None else plain(value)


def _days(value: date) -> int:
    """Return the days since 1970-01-01."""
    return (value - _FIRST_DAY).days


def _seconds(value: datetime) -> float:
    """Return the seconds since 1970-01-01 in UTC, which a time without an offset is taken to be in."""
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
