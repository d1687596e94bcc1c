"""Opens a registered version as MLflow's Python function: `mlflow.pyfunc.load_model(...).predict(frame)`.

A copy of this file is logged with every version and runs where Slipway is not installed: beside the standard library
it imports numpy, onnxruntime and pandas. It takes, refuses and answers what the service does, in the same words; a
contract test compares the two.
"""

import json
import math
import re
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

# Beside the model: task, features, output and ONNX inputs and outputs, in the form that they have in bundle.json.
DESCRIPTION = "description.json"
# So many rows are scored at a time: it bounds what the model takes between its inputs and its answers.
_SLICE = 65_536
_LISTED = 100
_SHOWN = 5
_NAMED_VALUES = 10
_INTEGER_LIMIT = 2**53 - 1
_NUMBER_LIMIT = {"float32": 3.4e38, "float64": 1.7e308}
_EPOCH = datetime(1970, 1, 1)
_FIRST_DAY = date(1970, 1, 1)
_TEXTS = ("category", "text")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(
    r"(?P<moment>\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(?P<fraction>\d+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):?(?P<minutes>[0-5]\d))?",
    re.ASCII,
)
_NOT_MEANT = {
    "integer": "Input should be a valid integer",
    "number": "Input should be a valid number",
    "boolean": "Input should be a valid boolean",
    "text": "Input should be a valid string",
    "date": "Input should be a valid date",
    "datetime": "Input should be a valid datetime",
}


class Fault(NamedTuple):
    """A refused value: its row, counted from 0, its column, and why."""

    row: int
    column: str
    message: str


class RefusedRows(ValueError):
    """Rows that the service refuses too; `code` is its word for it, `faults` are the first 100 refused values.

    With the code `no_prediction` there are none: the model itself has no finite answer to one of the rows.
    """

    def __init__(self, code: str, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.faults = faults


class Model:
    """An ONNX model with the description of what it takes and answers."""

    def __init__(self, model: Path) -> None:
        described = json.loads((model.parent / DESCRIPTION).read_text(encoding="utf-8"))
        self._features: list[dict[str, Any]] = described["features"]
        self._inputs: list[dict[str, Any]] = described["onnx"]["inputs"]
        onnx = described["onnx"]
        self._outputs = [name for name in (onnx["label"], onnx["probabilities"], onnx["value"]) if name]
        classes: list[Any] = described["output"]["classes"]
        self._labels = {_text(label): label for label in classes}
        positive = described["output"]["positive"]
        self._positive = None if positive is None else list(self._labels).index(_text(positive))
        second = "probabilities" if self._positive is None else "probability"
        self._columns = ["prediction", second] if classes else ["prediction"]
        self._dtypes = {name: each["dtype"] for each in self._inputs for name in each["features"]}
        options = ort.SessionOptions()
        # As a replica scores: one thread sums in one order, so the same rows give the same bits.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the answers to the rows of a frame, with its index; `params` are none.

        Columns are `prediction`, and of a classifier `probability` of the positive class, or `probabilities`, a dict by
        the text of the class. Columns that are no features are not looked at. Raises RefusedRows.
        """
        values = self._read(data)
        feeds = {
            each["name"]: np.column_stack([values[name] for name in each["features"]]).astype(_dtype(each["dtype"]))
            for each in self._inputs
        }
        columns: dict[str, list[Any]] = {name: [] for name in self._columns}
        for start in range(0, len(data), _SLICE):
            part = {name: array[start : start + _SLICE] for name, array in feeds.items()}
            for name, answers in self._answers(self._session.run(self._outputs, part)).items():
                columns[name] += answers
        return pd.DataFrame(columns, index=data.index)

    def _read(self, data: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """Return each feature as the model takes it: texts as objects, all else as float64."""
        values, faults, count = {}, [], 0
        for feature in self._features:
            name = feature["name"]
            column = data[name] if name in data.columns else pd.Series(None, index=data.index, dtype=object)
            values[name], found = _read_column(column, feature, self._dtypes[name])
            faults += [Fault(row, name, message) for row, message in found[:_LISTED]]
            count += len(found)
        if count:
            faults.sort(key=lambda fault: fault.row)
            shown = "; ".join(f"rows.{row}.{column}: {message}" for row, column, message in faults[:_SHOWN])
            more = f"; and {count - _SHOWN:,} more" if count > _SHOWN else ""
            text = f"{count:,} field(s) refused: {shown}{more}"
            raise RefusedRows("invalid_field", text, tuple(faults[:_LISTED]))
        return values

    def _answers(self, outputs: list[NDArray[Any]]) -> dict[str, list[Any]]:
        numbers = np.asarray(outputs[-1], dtype=np.float64)
        if not self._labels:
            return {"prediction": _finite(numbers.reshape(-1)).tolist()}
        labels = [self._labels.get(str(label), _NO_LABEL) for label in np.ravel(outputs[0]).tolist()]
        if _NO_LABEL in labels:
            raise _no_prediction()
        if self._positive is not None:
            return {"prediction": labels, "probability": _finite(numbers[:, self._positive]).tolist()}
        rows = [dict(zip(self._labels, row, strict=True)) for row in _finite(numbers).tolist()]
        return {"prediction": labels, "probabilities": rows}


def _load_pyfunc(path: str) -> Model:
    """Open the ONNX model at `path`; what MLflow calls."""
    return Model(Path(path))


_NO_LABEL = object()
_Faults = list[tuple[int, str]]


def _read_column(column: "pd.Series[Any]", feature: dict[str, Any], dtype: str) -> tuple[NDArray[Any], _Faults]:
    """Return the values of a column, and the rows whose value is refused, with the reason."""
    missing = column.isna().to_numpy(dtype=bool)
    present = np.flatnonzero(~missing)
    kind = feature["type"]
    faults = [] if feature["nullable"] else [(int(row), "Field required") for row in np.flatnonzero(missing)]
    values: NDArray[Any] = np.full(len(column), "" if kind in _TEXTS else np.nan, dtype=object)
    if kind == "category":
        values[present] = column.to_numpy(dtype=object)[present]
        strange = present[~column.isin(feature["categories"]).to_numpy(dtype=bool)[present]]
        return values, faults + [(int(row), _one_of(feature["categories"])) for row in strange]
    if kind == "text":
        faults += _each(column, present, _plain_text, kind, values)
        most = feature["maximum_length"]
        text = f"String should have at most {most} character{'s' * (most != 1)}"
        return values, faults + [(int(row), text) for row in present if len(values[row]) > most]
    values = values.astype(np.float64)
    whole_column = _whole_column(column, kind)
    if whole_column is None:
        faults += _each(column, present, _CONVERT[kind], kind, values)
    else:
        values[present] = whole_column[present]
    return values, faults + _out_of_bounds(values, np.setdiff1d(present, [row for row, _ in faults]), feature, dtype)


def _whole_column(column: "pd.Series[Any]", kind: str) -> NDArray[np.float64] | None:
    """Return a column whose dtype says what its values are, None for one whose values have to be looked at."""
    types = pd.api.types
    if kind in ("integer", "number"):
        plain = types.is_integer_dtype(column.dtype) or types.is_float_dtype(column.dtype)
    else:
        plain = kind == "boolean" and types.is_bool_dtype(column.dtype)
    if plain and not isinstance(column.dtype, pd.CategoricalDtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if kind not in ("date", "datetime") or not types.is_datetime64_any_dtype(column.dtype):
        return None
    if isinstance(column.dtype, pd.ArrowDtype):
        # Days as well, which have no zone to be put away.
        return None
    # Without its zone it would be its moment there; a day is the day of its zone.
    local = column.dt.tz_localize(None) if kind == "date" else pd.to_datetime(column, utc=True).dt.tz_localize(None)
    # In microseconds, which any year has: pandas would take nanoseconds, which end in 2262.
    since = np.asarray(local, dtype="datetime64[us]") - np.datetime64(0, "us")
    return since / np.timedelta64(1, "D" if kind == "date" else "s")


def _each(
    column: "pd.Series[Any]", rows: NDArray[np.int_], convert: Callable[[Any], Any], kind: str, into: NDArray[Any]
) -> _Faults:
    """Write the values of some rows into an array, and return those that are not meant."""
    found, faults = column.to_numpy(dtype=object), []
    for row in rows.tolist():
        try:
            into[row] = convert(found[row])
        except (ArithmeticError, TypeError, ValueError):
            faults.append((row, _NOT_MEANT[kind]))
    return faults


def _plain_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    try:
        return float(value)
    except OverflowError:
        # A whole number of any length: outside of every bound.
        return sys.float_info.max if value > 0 else -sys.float_info.max


def _truth(value: Any) -> float:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return float(value)


def _days(value: Any) -> float:
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        if value.time() != datetime.min.time():
            raise ValueError
        value = value.date()
    elif isinstance(value, str):
        if not _DATE.fullmatch(value):
            raise ValueError
        value = date.fromisoformat(value)
    elif not isinstance(value, date):
        raise TypeError
    return float((value - _FIRST_DAY).days)


def _seconds(value: Any) -> float:
    """Return the seconds since 1970-01-01 in UTC, which a time without an offset is taken to be in."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, str):
        value = _moment(value)
    elif not isinstance(value, datetime):
        raise TypeError
    offset = value.utcoffset() or timedelta()
    return float((value.replace(tzinfo=None) - _EPOCH - offset) / timedelta(seconds=1))


def _moment(text: str) -> datetime:
    """Return a time of RFC 3339 in UTC."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError
    fraction = timedelta(microseconds=round(float(f"0.{found['fraction'] or 0}") * 1e6))
    moment = datetime.fromisoformat(found["moment"]) + fraction
    offset = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
    return moment + offset if found["sign"] == "-" else moment - offset


_CONVERT: dict[str, Callable[[Any], float]] = {
    "integer": _number,
    "number": _number,
    "boolean": _truth,
    "date": _days,
    "datetime": _seconds,
}


def _out_of_bounds(values: NDArray[Any], rows: NDArray[np.int_], feature: dict[str, Any], dtype: str) -> _Faults:
    """Return those of some rows whose number is not what its feature takes, with the reason."""
    kind, numbers = feature["type"], values[rows]
    if kind == "date":
        return [(int(row), _NOT_MEANT[kind]) for row in rows[numbers != np.floor(numbers)]]
    if kind not in ("integer", "number"):
        return []
    low, high = _bounds(feature, dtype)
    fitting = (numbers >= low) & (numbers <= high)
    if kind == "integer":
        fitting &= numbers == np.round(numbers)
    return [(int(row), _number_fault(float(values[row]), kind, low, high)) for row in rows[~fitting]]


def _bounds(feature: dict[str, Any], dtype: str) -> tuple[float, float]:
    low = -math.inf if feature["minimum"] is None else feature["minimum"]
    high = math.inf if feature["maximum"] is None else feature["maximum"]
    if feature["type"] == "integer":
        return math.ceil(max(low, -_INTEGER_LIMIT)), math.floor(min(high, _INTEGER_LIMIT))
    limit = _NUMBER_LIMIT.get(dtype, math.inf)
    return max(low, -limit), min(high, limit)


def _number_fault(value: float, kind: str, low: float, high: float) -> str:
    if kind == "integer" and not value.is_integer():
        return _NOT_MEANT[kind]
    if not math.isfinite(value):
        return "Input should be a finite number"
    if value < low:
        return f"Input should be greater than or equal to {_shown(low)}"
    return f"Input should be less than or equal to {_shown(high)}"


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else np.format_float_positional(bound, trim="-")


def _one_of(categories: list[str]) -> str:
    if len(categories) > _NAMED_VALUES:
        named = ", ".join(map(repr, categories[:_NAMED_VALUES]))
        return f"Input should be one of {len(categories):,} values, such as {named}"
    *others, last = map(repr, categories)
    return f"Input should be {', '.join(others)} or {last}" if others else f"Input should be {last}"


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(numbers).all():
        raise _no_prediction()
    return numbers


def _no_prediction() -> RefusedRows:
    return RefusedRows("no_prediction", "the model gives no finite answer for these values")


def _text(label: Any) -> str:
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


def _dtype(name: str) -> Any:
    return object if name == "string" else np.dtype(name)
