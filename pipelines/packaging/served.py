"""Values as a model takes them and as a request carries them: one truth for training, packaging and gates.

The service turns requests into the same: a missing number is NaN and a missing text is empty, true is 1, a date is its
days and a time its seconds since 1970-01-01 in UTC.
"""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Value


def model_values(column: "pd.Series[Any]", feature: Feature) -> NDArray[Any]:
    """Return a column (n,) as a model takes it: texts as objects, all else as float64.

    Dates and times may be given as such or as ISO 8601 texts. Raises ValueError for a value of another type.
    """
    if feature.type.is_text:
        return column.astype(object).where(column.notna(), "").to_numpy(dtype=object)
    if feature.type is FeatureType.DATETIME and pd.api.types.is_datetime64_any_dtype(column.dtype):
        return np.asarray((pd.to_datetime(column, utc=True) - _EPOCH) / pd.Timedelta(seconds=1), dtype=np.float64)
    convert = {FeatureType.DATE: _days, FeatureType.DATETIME: _seconds}.get(feature.type, float)
    if convert is float and pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    found = [np.nan if missing else convert(value) for value, missing in zip(column, column.isna(), strict=True)]
    return np.array(found, dtype=np.float64)


def request_value(feature: Feature, value: Any) -> Value:
    """Return a value of a snapshot as a request carries it, None for a missing one."""
    if pd.isna(value):
        return None
    if feature.type.is_text:
        return str(value)
    if feature.type is FeatureType.DATE:
        return _date(value).isoformat()
    if feature.type is FeatureType.DATETIME:
        return _moment(value).isoformat().replace("+00:00", "Z")
    if feature.type is FeatureType.BOOLEAN:
        return bool(value)
    return int(value) if feature.type is FeatureType.INTEGER else float(value)


# Of whole seconds, or all would become nanoseconds, which end in 2262.
_EPOCH = pd.Timestamp(0, tz="UTC").as_unit("s")


def _days(value: Any) -> int:
    return (_date(value) - date(1970, 1, 1)).days


def _date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    return value.date() if isinstance(value, datetime) else value


def _seconds(value: Any) -> float:
    return _moment(value).timestamp()


def _moment(value: Any) -> datetime:
    """Return a moment in UTC, which a time without an offset is taken to be in."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, pd.Timestamp):
        moment = moment.to_pydatetime()
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
