"""Describes the rows of a DataFrame as model.yaml would: what is not declared of a column is told by its type.

A type that a request or the model can't carry is refused by its column, with what would work.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pipelines.domain.bundle import FeatureType
from pipelines.domain.description import Label, Task, label_text
from pipelines.domain.names import checked_name
from pipelines.errors import UsageError
from pipelines.packaging.onnx_model import refuse_unspeakable
from pipelines.packaging.snapshot import SnapshotDescription
from pipelines.training.feature_rules import Numeric, Plain, Rule, Text, feature_of
from pipelines.training.places import FEWEST_ROWS
from pipelines.training.proposal import MOST_CATEGORIES, probable_positive
from pipelines.training.reading import numbers as of
from pipelines.training.reading.refusals import quoted

_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)
_TIMES = (FeatureType.DATE, FeatureType.DATETIME)


def checked_frame(rows: Any, what: str) -> pd.DataFrame:
    """Return a DataFrame with names of text and the index of its positions; raise UsageError for anything else."""
    if not isinstance(rows, pd.DataFrame):
        raise UsageError(
            f"{what} is of type {type(rows).__name__}, without names of columns",
            next="give a pandas DataFrame: requests name the features as its columns are named",
        )
    odd = [name for name in rows.columns if not isinstance(name, str) or not name]
    if odd or rows.columns.has_duplicates:
        twice = sorted({str(name) for name in rows.columns[rows.columns.duplicated()]})
        named = ", ".join(map(repr, [*odd, *twice][:5]))
        raise UsageError(
            f"{what} has columns that no request can name: {named}",
            next="give each column a text of its own as name: X.columns = [...]",
        )
    return rows.reset_index(drop=True)


def checked_target(y: Any, rows: int, what: str) -> "pd.Series[Any]":
    """Return the truth of so many rows, a value each; raise UsageError for another number of them, or missing ones."""
    values = np.asarray(y)
    if values.size != rows:
        raise UsageError(f"{what} has {values.size} values for {rows} rows", next="give a value for each row")
    if isinstance(y, pd.DataFrame):
        y = y.iloc[:, 0]
    column = pd.Series(y if isinstance(y, pd.Series) else values.reshape(-1)).reset_index(drop=True)
    if column.isna().any():
        raise UsageError(f"{what} has {int(column.isna().sum())} missing values", next="leave such rows out")
    return column


def labels_of(column: "pd.Series[Any]") -> list[Label]:
    """Return labels as plain values: true and false, numbers, or texts."""
    return [each.item() if isinstance(each, np.generic) else each for each in column.tolist()]


def positive_of(labels: Sequence[Label]) -> Label:
    """Return the one of some labels that says yes, or else the rarest."""
    by_text = {label_text(label): label for label in labels}
    return by_text[probable_positive(Counter(map(label_text, labels)))]


def described(
    rows: pd.DataFrame,
    *,
    model: str,
    target: str,
    task: Task,
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    declared: Mapping[str, Mapping[str, Any]] | None = None,
    protected: Sequence[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
) -> SnapshotDescription:
    """Describe the features that are the columns of `rows`, by what `declared` says of them and else by their types.

    `declared` has the words of model.yaml: `{"age": {"minimum": 0}}`. `known` are categories of a column beside those
    in the rows. Raises UsageError, NotServable for a name.
    """
    declared, known = declared or {}, known or {}
    if not (isinstance(declared, Mapping) and all(isinstance(rule, Mapping) for rule in declared.values())):
        raise UsageError(
            f"features is {str(declared)[:100]!r}, and not what model.yaml says of each feature",
            next='give it as {"age": {"type": "integer", "minimum": 0}}',
        )
    strangers = sorted({*declared, *protected} - set(rows.columns))
    if strangers:
        raise UsageError(
            f"no feature is called {', '.join(map(repr, strangers))}",
            next=f"the estimator takes {', '.join(map(repr, rows.columns))}",
        )
    features = []
    for name in rows.columns:
        refuse_unspeakable(name)
        rule = _rule(name, rows[name], declared.get(name, {}), known.get(name, ()))
        features.append(feature_of(name, rule, typed(rows[name], FeatureType(rule.type))))
    return SnapshotDescription(
        model=checked_name(model, what="model name"),
        target=target,
        positive=positive,
        classes=tuple(sorted(classes, key=label_text)),
        features=tuple(features),
        protected=tuple(protected),
        task=task,
    )


def typed_rows(rows: pd.DataFrame, truth: "pd.Series[Any]", description: SnapshotDescription) -> pd.DataFrame:
    """Return features and target as a snapshot holds them; raise UsageError for too few rows, or none of a label."""
    columns = {each.name: typed(rows[each.name], each.type) for each in description.features}
    if len(rows) < FEWEST_ROWS:
        raise UsageError(f"{len(rows)} rows are too few to judge by", next=f"give {FEWEST_ROWS} or more")
    if description.task is Task.REGRESSION:
        return pd.DataFrame({**columns, description.target: _numbers(truth)})
    texts = pd.Series([label_text(label) for label in labels_of(truth)], dtype=object)
    known = {label_text(label) for label in description.classes}
    if strange := sorted(set(texts) - known):
        raise UsageError(
            f"y holds {', '.join(map(repr, strange[:5]))}, and the estimator answers"
            f" {', '.join(map(repr, sorted(known)))}",
            next="give y as the estimator was fitted on it",
        )
    return pd.DataFrame({**columns, description.target: texts})


def _numbers(truth: "pd.Series[Any]") -> "pd.Series[Any]":
    try:
        values: NDArray[np.float64] = np.asarray(truth.astype(np.float64), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"y holds what is no number, which task regression needs: {error}", next="give numbers, or another task"
        ) from error
    if not np.isfinite(values).all() or of.is_beyond_float32(values).any():
        raise UsageError("y holds numbers beyond float32, which the model answers with", next="scale y before fit")
    return pd.Series(values)


def refuse_absent_labels(frame: pd.DataFrame, description: SnapshotDescription) -> None:
    """Raise UsageError for a label that no row has: its quality would not be measured."""
    absent = sorted({label_text(each) for each in description.classes} - set(frame[description.target]))
    if absent and description.task is not Task.REGRESSION:
        raise UsageError(
            f"no evaluation row has {description.target} {', '.join(map(repr, absent))}", next="give rows of each label"
        )


def typed(column: "pd.Series[Any]", kind: FeatureType) -> "pd.Series[Any]":
    """Return a column as plain pandas types: float64 where numbers may be missing, objects for texts."""
    if kind.is_text:
        return column.astype(object).where(column.notna(), None)
    if kind is FeatureType.BOOLEAN:
        return column.astype(bool) if not column.isna().any() else column.astype(object).where(column.notna(), None)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = kind is FeatureType.INTEGER and not np.isnan(values).any()
    return pd.Series(values.astype(np.int64) if whole else values)


def _rule(name: str, column: "pd.Series[Any]", declared: Mapping[str, Any], known: Sequence[str]) -> Rule:
    """Return what holds of a feature; raise UsageError where its values can't be what it is."""
    told = dict(declared)
    if column.isna().any():
        told.setdefault("nullable", True)
    if "type" not in told:
        told["type"] = _kind(name, column)
    if told["type"] == "category" and not told.get("categories"):
        told["categories"] = sorted({*_texts(name, column), *known})
    try:
        rule = _RULE.validate_python(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"][1:]))
        raise UsageError(
            f"feature {name!r} is declared as {dict(declared)}: {place or 'type'}: {first['msg']}",
            next='give what model.yaml says of a feature, such as {"type": "integer", "minimum": 0}',
        ) from error
    _check(name, column, rule)
    return rule


def _kind(name: str, column: "pd.Series[Any]") -> str:
    """Return the type of feature that a column of a DataFrame is."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _kind(name, pd.Series(column.dtype.categories)) if len(column.dtype.categories) else "category"
    kinds = (
        (pd.api.types.is_bool_dtype, "boolean"),
        (pd.api.types.is_integer_dtype, "integer"),
        (pd.api.types.is_float_dtype, "number"),
    )
    for is_kind, kind in kinds:
        if is_kind(column.dtype):
            return kind
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise _no_times(name)
    held = {type(value) for value in column.dropna()}
    if held == {bool}:
        return "boolean"
    if held - {str}:
        meant = "number" if all(issubclass(each, Real | Decimal) for each in held) else "category"
        raise UsageError(
            f"column {name!r} holds {', '.join(sorted(each.__name__ for each in held))}, which no feature is",
            next=f"give it one type before fit, or declare it: features={{{name!r}: {{'type': {meant!r}}}}}",
        )
    different = int(column.nunique())
    if different > MOST_CATEGORIES:
        raise UsageError(
            f"column {name!r} holds {different:,} different texts, more than the {MOST_CATEGORIES} of a category",
            next=f"leave it out of the estimator, or declare it: features={{{name!r}: {{'type': 'text',"
            " 'maximum_length': 200}}",
        )
    return "category"


def _texts(name: str, column: "pd.Series[Any]") -> set[str]:
    found = set(column.dtype.categories) if isinstance(column.dtype, pd.CategoricalDtype) else set(column.dropna())
    if odd := [each for each in found if not isinstance(each, str)]:
        raise UsageError(
            f"column {name!r} holds {odd[0]!r}, and a category is a text", next=f"fit on X[{name!r}].astype(str)"
        )
    return found


def _check(name: str, column: "pd.Series[Any]", rule: Rule) -> None:
    """Raise UsageError for values that are not of the feature: the service would refuse such a row, or change it."""
    if FeatureType(rule.type) in _TIMES:
        raise _no_times(name)
    if column.isna().any() and not rule.nullable:
        raise UsageError(
            f"feature {name!r} is missing in {int(column.isna().sum())} rows, and is declared as never missing",
            next="leave nullable out, or leave such rows out",
        )
    if isinstance(rule, Numeric):
        _check_numbers(name, column.dropna(), rule)
        return
    given = column.dropna().astype(object)
    if isinstance(rule, Plain):
        _refuse_values(name, given, ~given.isin([True, False]), "is neither true nor false")
    else:
        is_text = given.map(lambda value: isinstance(value, str)).astype(bool)
        _refuse_values(name, given, ~is_text, f"is no text, which a {rule.type} is")
        if isinstance(rule, Text):
            long = given.map(len).astype(int) > rule.maximum_length
            _refuse_values(name, given, long, f"is longer than {rule.maximum_length} characters")
        else:
            _refuse_values(name, given, ~given.isin(rule.categories), "is not one of its categories")


def _check_numbers(name: str, given: "pd.Series[Any]", rule: Numeric) -> None:
    try:
        values: NDArray[np.float64] = np.asarray(given.astype(np.float64), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"feature {name!r} is declared as {rule.type}, and holds what is no number: {error}",
            next="declare it as what it is, or give numbers",
        ) from error
    if np.isinf(values).any() or of.is_beyond_float32(values).any():
        raise UsageError(
            f"feature {name!r} holds numbers beyond float32, which the model is given", next="scale it before fit"
        )
    if rule.type == "integer" and not (of.is_whole(values).all() and not of.is_merged(values).any()):
        raise UsageError(
            f"feature {name!r} holds numbers that are not whole, or that float32 merges with one another",
            next=f"declare it: features={{{name!r}: {{'type': 'number'}}}}; an id or a time as a number is no feature",
        )
    if rule.minimum is not None:
        _refuse_values(name, given, values < rule.minimum, f"is below the declared minimum {rule.minimum:g}")
    if rule.maximum is not None:
        _refuse_values(name, given, values > rule.maximum, f"is above the declared maximum {rule.maximum:g}")


def _refuse_values(name: str, given: "pd.Series[Any]", wrong: Any, why: str) -> None:
    found = given[np.asarray(wrong, dtype=bool)]
    if len(found):
        count = f" ({len(found):,} such values)" if len(found) > 1 else ""
        raise UsageError(
            f"feature {name!r}: {quoted(str(found.iloc[0]))} in row {found.index[0]} {why}{count}",
            next="declare what the rows hold, or correct them: the service refuses such values",
        )


def _no_times(name: str) -> UsageError:
    return UsageError(
        f"column {name!r} holds times, which no estimator takes as they are",
        next=f"fit on a number made of it, such as (X[{name!r}] - pd.Timestamp('2020-01-01')).dt.days",
    )
