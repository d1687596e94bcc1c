"""Gives every column its type; all values that have no meaning in model.yaml are refused in one go."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.training.model_file import Categorical, ModelFile, Numeric, instant
from pipelines.training.reading import numbers as of
from pipelines.training.reading.refusals import Refusals, quoted
from pipelines.training.reading.table import Table
from pipelines.training.workspace import report

_CORRECT = "correct the data, or declare in model.yaml what it means"
# A label needs a row to train on and one to evaluate by, at the very least.
_LABEL_ROWS = 2


def typed_frame(model: ModelFile, table: Table) -> pd.DataFrame:
    """Return features and target, typed, in the order of the rows.

    Raises UsageError that names, column by column, the first values without a meaning with their place, and how many
    there are.
    """
    wrong = Refusals(table.name)
    decimal = model.source.decimal or guessed_decimal(table, list(model.numeric))
    columns: dict[str, pd.Series] = {}
    for name, rule in model.features.items():
        if isinstance(rule, Numeric):
            columns[name] = _numbers(table, name, rule, decimal, wrong)
        else:
            columns[name] = _categories(table, name, rule, wrong)
    _check_labels(model, table, wrong)
    for name in model.id_columns:
        wrong.add_values(table, name, table.is_missing(name), "is missing, where a row's id is needed")
    if model.split.column:
        instants(table, model.split.column, wrong)
    wrong.end(next=_CORRECT)
    return pd.DataFrame({**columns, model.target: _objects(table.columns[model.target])})


def guessed_decimal(table: Table, columns: list[str]) -> str:
    """Return the sign that numbers of these columns are written with, so far as they show it for certain."""
    return "," if any(of.shows_comma(table.trimmed(name)) for name in columns) else "."


def instants(table: Table, column: str, wrong: Refusals) -> NDArray[np.datetime64]:
    """Return the times of a column, in UTC; note in `wrong` what is none."""
    times = np.full(len(table), np.datetime64("NaT"), dtype="datetime64[us]")
    for position, text in enumerate(table.trimmed(column).to_pylist()):
        try:
            times[position] = instant(text).replace(tzinfo=None)
        except ValueError:
            continue
    wrong.add_values(table, column, np.isnat(times), "is no date or time as ISO 8601 writes it (2025-01-31)")
    return times


def _numbers(table: Table, name: str, rule: Numeric, decimal: str, wrong: Refusals) -> pd.Series:
    missing = table.is_missing(name)
    values = of.parsed(table.trimmed(name), decimal).copy()
    values[missing] = np.nan if rule.blank is None else rule.blank
    if rule.blank is None:
        wrong.add_values(table, name, missing, "is missing, and blank does not say what that means")
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
    return pd.Series(np.where(is_number & ~beyond & ~rounded, values, 0.0)).round().astype("int64")


def _categories(table: Table, name: str, rule: Categorical, wrong: Refusals) -> pd.Series:
    missing = table.is_missing(name)
    wrong.add_values(table, name, missing, "is missing")
    if rule.categories:
        known = pc.is_in(table.columns[name], value_set=pa.array(rule.categories, pa.string()))
        strange = ~known.to_numpy(zero_copy_only=False) & ~missing
        wrong.add_values(table, name, strange, "is not one of its categories")
    return _objects(table.columns[name])


def _check_labels(model: ModelFile, table: Table, wrong: Refusals) -> None:
    missing = table.is_missing(model.target)
    wrong.add_values(table, model.target, missing, "is missing, where the target's label is needed")
    labels = table.columns[model.target].to_numpy(zero_copy_only=False)[~missing]
    counts = Counter(labels.tolist())
    named = ", ".join(quoted(label) for label in sorted(counts)[:5])
    if len(counts) < 2:
        wrong.add(f"target {model.target} holds one label, {named}: a classifier needs rows of two or more")
    if model.positive not in counts:
        wrong.add(f"target {model.target} holds {named} and never the positive label {model.positive!r}")
    for label, rows in sorted(counts.items()):
        if rows < _LABEL_ROWS:
            place = table.places[~missing][labels == label][0]
            wrong.add(
                f"target {model.target}: label {quoted(label)} has one row ({table.unit} {place}), and needs enough"
                " for every part: add rows of it, join it with another label, or leave the row out"
            )


def _objects(texts: pa.StringArray) -> pd.Series:
    return pd.Series(texts.to_numpy(zero_copy_only=False), dtype=object)
