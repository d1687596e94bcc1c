"""Gives every column its type; all values that have no meaning in model.yaml are refused in one go."""

import math
from collections import Counter
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.domain.description import Label, Task, label_text
from pipelines.training.feature_rules import Categorical, Numeric, Plain, Rule, Text
from pipelines.training.model_file import ModelFile, instant
from pipelines.training.reading import numbers as of
from pipelines.training.reading.refusals import Refusals, quoted
from pipelines.training.reading.table import Table
from pipelines.training.workspace import report

_CORRECT = "correct the data, or declare in model.yaml what it means"
# A label needs a row to train on and one to evaluate by, at the very least.
_LABEL_ROWS = 2
_TRUTHS = {"true": True, "false": False, "yes": True, "no": False, "t": True, "f": False, "1": True, "0": False}


def typed_frame(model: ModelFile, table: Table, *, trains: bool = True) -> pd.DataFrame:
    """Return features and target, typed, in the order of the rows, of which some train unless all evaluate.

    Raises UsageError that names, column by column, the first values without a meaning with their place, and how many
    there are.
    """
    wrong = Refusals(table.name)
    numbers = [*model.numeric, *([model.target] if model.kind is Task.REGRESSION else [])]
    decimal = model.source.decimal or guessed_decimal(table, numbers)
    columns: dict[str, pd.Series] = {}
    for name, rule in model.features.items():
        columns[name] = _feature(table, name, rule, decimal, wrong)
        if trains and isinstance(rule, Categorical) and not rule.categories:
            _check_repeated(table, name, wrong)
    columns[model.target] = _target(model, table, decimal, wrong, trains=trains)
    for name in model.id_columns:
        wrong.add_values(table, name, table.is_missing(name), "is missing, where a row's id is needed")
    if model.split.column:
        instants(table, model.split.column, wrong)
    wrong.end(next=_CORRECT)
    return pd.DataFrame(columns)


def guessed_decimal(table: Table, columns: list[str]) -> str:
    """Return the sign that numbers of these columns are written with, so far as they show it for certain."""
    return "," if any(of.shows_comma(table.trimmed(name)) for name in columns) else "."


def instants(
    table: Table, column: str, wrong: Refusals, *, among: NDArray[np.bool_] | None = None
) -> NDArray[np.datetime64]:
    """Return the times of a column, in UTC; note in `wrong` what is none, `among` some rows or all."""
    times = np.full(len(table), np.datetime64("NaT"), dtype="datetime64[us]")
    for position, text in enumerate(table.trimmed(column).to_pylist()):
        try:
            times[position] = instant(text).replace(tzinfo=None)
        except ValueError:
            continue
    none = np.isnat(times) if among is None else np.isnat(times) & among
    wrong.add_values(table, column, none, "is no date or time as ISO 8601 writes it (2025-01-31)")
    return times


def _feature(table: Table, name: str, rule: Rule, decimal: str, wrong: Refusals) -> pd.Series:
    if isinstance(rule, Numeric):
        return _numbers(table, name, rule, decimal, wrong)
    if isinstance(rule, Categorical):
        return _categories(table, name, rule, wrong)
    if isinstance(rule, Text):
        return _texts(table, name, rule, wrong)
    read = {"boolean": _truths, "date": _dates, "datetime": _times}[rule.type]
    return read(table, name, rule, wrong)


def _numbers(table: Table, name: str, rule: Numeric, decimal: str, wrong: Refusals) -> pd.Series:
    missing = table.is_missing(name)
    values = of.parsed(table.trimmed(name), decimal).copy()
    values[missing] = np.nan if rule.blank is None else rule.blank
    if rule.blank is None and not rule.nullable:
        wrong.add_values(table, name, missing, "is missing, and neither blank nor nullable says what that means")
    is_number = ~np.isnan(values)
    wrong.add_values(table, name, ~is_number & ~missing, f"is not a number (decimal sign {decimal!r})")
    beyond = of.is_beyond_float32(values)
    wrong.add_values(table, name, beyond, "is more than float32 holds, which the model takes")
    if rule.minimum is not None:
        wrong.add_values(table, name, values < rule.minimum, f"is below the declared minimum {rule.minimum:g}")
    if rule.maximum is not None:
        wrong.add_values(table, name, values > rule.maximum, f"is above the declared maximum {rule.maximum:g}")
    merged = of.is_merged(values)
    if rule.type == "number":
        if merged.any():
            report(
                f"column {name}: {len(np.unique(values[merged])):,} whole numbers are the same as another one to the"
                " model, which takes float32"
            )
        return pd.Series(values)
    fraction = is_number & ~beyond & ~of.is_whole(values)
    wrong.add_values(table, name, fraction, "is not a whole number")
    rounded = of.is_beyond_whole(values) & ~beyond
    wrong.add_values(table, name, rounded, "is beyond 2^53, where whole numbers are rounded")
    wrong.add_values(
        table,
        name,
        merged & ~rounded & ~beyond,
        'is the same to the model, which takes float32, as another value of its column ("type: number" accepts that)',
    )
    if not missing.any() and of.counts_rows(values):
        report(f"column {name}: a whole number of its own in each row, without a gap: is it an id?")
    whole = pd.Series(np.where(is_number & ~beyond & ~rounded, values, 0.0)).round().astype("int64")
    return whole.astype("Int64").mask(missing) if rule.nullable else whole


def _categories(table: Table, name: str, rule: Categorical, wrong: Refusals) -> pd.Series:
    missing = _missing(table, name, rule, wrong)
    if rule.categories:
        known = pc.is_in(table.columns[name], value_set=pa.array(rule.categories, pa.string()))
        strange = ~known.to_numpy(zero_copy_only=False) & ~missing
        wrong.add_values(table, name, strange, "is not one of its categories")
    return _objects(table.columns[name], missing)


def _check_repeated(table: Table, name: str, wrong: Refusals) -> None:
    """Note a category that most rows have a text of their own of, which says nothing of other rows."""
    missing = table.is_missing(name)
    if (found := len(table.columns[name].filter(pa.array(~missing)).unique())) > (~missing).sum() / 2:
        wrong.add(
            f"column {name}: {found:,} different texts in {(~missing).sum():,} rows are no categories: put it under"
            " id_columns or ignore, make a date or datetime of it, or declare its categories"
        )


def _texts(table: Table, name: str, rule: Text, wrong: Refusals) -> pd.Series:
    missing = _missing(table, name, rule, wrong)
    long = pc.greater(pc.utf8_length(table.columns[name]), rule.maximum_length).to_numpy(zero_copy_only=False)
    wrong.add_values(table, name, long & ~missing, f"is longer than {rule.maximum_length} characters")
    return _objects(table.columns[name], missing)


def _truths(table: Table, name: str, rule: Plain, wrong: Refusals) -> pd.Series:
    missing = _missing(table, name, rule, wrong)
    found = [_TRUTHS.get(text.lower()) for text in table.trimmed(name).to_pylist()]
    strange = np.array([each is None for each in found]) & ~missing
    wrong.add_values(table, name, strange, "is neither true nor false")
    return pd.Series([None if gone else each for each, gone in zip(found, missing, strict=True)], dtype=object)


def _dates(table: Table, name: str, rule: Plain, wrong: Refusals) -> pd.Series:
    missing = _missing(table, name, rule, wrong)
    found = [_date(text) for text in table.trimmed(name).to_pylist()]
    strange = np.array([each is None for each in found]) & ~missing
    wrong.add_values(table, name, strange, "is no date as ISO 8601 writes it (2025-01-31)")
    return pd.Series(found, dtype=object)


def _times(table: Table, name: str, rule: Plain, wrong: Refusals) -> pd.Series:
    missing = _missing(table, name, rule, wrong)
    times = instants(table, name, wrong, among=~missing)
    return pd.Series(pd.DatetimeIndex(times, tz="UTC"))


def _missing(table: Table, name: str, rule: Categorical | Plain | Text, wrong: Refusals) -> NDArray[np.bool_]:
    missing = table.is_missing(name)
    if not rule.nullable:
        wrong.add_values(table, name, missing, "is missing, and the feature is not nullable")
    return missing


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _target(model: ModelFile, table: Table, decimal: str, wrong: Refusals, *, trains: bool) -> pd.Series:
    """Return the target: the texts of its labels as the model answers them, or numbers."""
    missing = table.is_missing(model.target)
    wrong.add_values(
        table, model.target, missing, "is missing, where the target is needed (unlabelled: drop leaves such rows out)"
    )
    if model.kind is Task.REGRESSION:
        values = of.parsed(table.trimmed(model.target), decimal)
        wrong.add_values(
            table, model.target, np.isnan(values) & ~missing, f"is not a number (decimal sign {decimal!r})"
        )
        wrong.add_values(table, model.target, of.is_beyond_float32(values), "is more than float32 holds")
        if len(np.unique(values[~np.isnan(values)])) == 1:
            wrong.add(f"target {model.target} holds one value only: there is nothing to be predicted")
        return pd.Series(values)
    labels = [_label(text, model.label_type) for text in table.columns[model.target].to_pylist()]
    strange = np.array([each is None for each in labels]) & ~missing
    bound = ", which is below 2^53" if model.label_type == "integer" else ""
    wrong.add_values(table, model.target, strange, f"is no label of type {model.label_type}{bound}")
    texts = np.array(["" if each is None else label_text(each) for each in labels], dtype=object)
    known = ~missing & ~strange
    _check_labels(model, texts[known], wrong)
    if trains:
        _check_rare_labels(model, table, texts[known], table.places[known], wrong)
    return pd.Series(texts, dtype=object)


def typed_label(text: str, kind: str) -> Label:
    """Return a label of a text that `label_text` wrote, of type text, integer, number or boolean."""
    found = _label(text, kind)
    assert found is not None
    return found


def _label(text: str, kind: str) -> Label | None:
    """Return a label of a source's text; None for one that is not of that type."""
    if kind == "text":
        return text
    if kind == "boolean":
        return _TRUTHS.get(text.strip().lower())
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    # Beyond, two labels would become one.
    if kind == "integer" and not (number.is_integer() and abs(number) <= of.MAX_WHOLE):
        return None
    return int(number) if kind == "integer" else number


def _check_labels(model: ModelFile, labels: NDArray[np.object_], wrong: Refusals) -> None:
    held = set(labels.tolist())
    named = ", ".join(quoted(label) for label in sorted(held)[:5])
    if len(held) < 2:
        wrong.add(f"target {model.target} holds one label, {named}: a classifier needs rows of two or more")
    if model.positive is not None and label_text(model.positive) not in held:
        wrong.add(f"target {model.target} holds {named} and never the positive label {model.positive!r}")


def _check_rare_labels(
    model: ModelFile, table: Table, labels: NDArray[np.object_], places: NDArray[np.int64], wrong: Refusals
) -> None:
    for label, rows in sorted(Counter(labels.tolist()).items()):
        if rows < _LABEL_ROWS:
            place = places[labels == label][0]
            wrong.add(
                f"target {model.target}: label {quoted(label)} has one row ({table.unit} {place}), and needs enough"
                " for every part: add rows of it, join it with another label, or leave the row out"
            )


def _objects(texts: pa.StringArray, missing: NDArray[np.bool_]) -> pd.Series:
    return pd.Series(np.where(missing, None, texts.to_numpy(zero_copy_only=False)), dtype=object)
