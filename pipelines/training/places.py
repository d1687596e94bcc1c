"""Gives every row its part for good, so that more data moves no row from training to evaluation or back.

A comparison of two versions is only fair on rows that neither was trained on: a part may depend on the row alone, not
on which other rows there are.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.domain.description import Task
from pipelines.packaging.training_rows import Hashes, hashes_of_texts
from pipelines.training.model_file import ModelFile
from pipelines.training.reading.columns import instants
from pipelines.training.reading.refusals import Refusals, quoted
from pipelines.training.reading.table import Table

# With fewer no fit and no measurement means anything.
FEWEST_ROWS = 10
_DRAWN_BITS = 53


@dataclass(frozen=True)
class Parts:
    """Which rows train, evaluate, and are what drift is measured against; the last are some of the first."""

    train: NDArray[np.bool_]
    evaluation: NDArray[np.bool_]
    reference: NDArray[np.bool_]

    def named(self) -> dict[str, NDArray[np.bool_]]:
        """Return the parts by their names."""
        return {"train": self.train, "evaluation": self.evaluation, "reference": self.reference}


def drawn(seed: int, key: Iterable[Any]) -> float:
    """Return a number in [0, 1) that depends on seed and key alone, evenly spread over keys.

    It is the first 53 bits of the SHA-256 of the JSON list of seed and key, divided by 2^53: the repeatable split by
    hash buckets of Lakshmanan, Robinson and Munn, Machine Learning Design Patterns (2020), "Repeatable Splitting".
    """
    text = json.dumps([seed, *key], ensure_ascii=True, allow_nan=False)
    first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return float((first >> (64 - _DRAWN_BITS)) / (1 << _DRAWN_BITS))


def divided(model: ModelFile, table: Table, frame: pd.DataFrame) -> Parts:
    """Return the part of each row of `frame`, which is typed `table`.

    A row's key are the trimmed texts of its id columns; without any, its features' values in the order of their names,
    so that equal rows are in one part whatever their labels. Rows of one key are in one part. With `by: hash` a row
    evaluates when its drawn number is below `evaluation`, and is for reference in the next `reference`; with `by:
    time` it evaluates from `evaluation_from` on, and the others are for reference below `reference`.

    Raises UsageError for a part with too few rows, or without any of one of the labels.
    """
    split = model.split
    places = np.fromiter((drawn(split.seed, key) for key in _keys(model, table, frame)), dtype=np.float64)
    if split.evaluation is not None:
        evaluation = places < split.evaluation
        reference = ~evaluation & (places < split.evaluation + split.reference)
    else:
        assert split.column is not None and split.evaluation_from is not None
        times = instants(table, split.column, Refusals(table.name))
        evaluation = times >= np.datetime64(split.evaluation_from.replace(tzinfo=None))
        reference = ~evaluation & (places < split.reference)
    parts = Parts(~evaluation, evaluation, reference)
    _check(model, table, frame, parts)
    return parts


def identity_of(model: ModelFile) -> tuple[str, ...]:
    """Return the columns that say which row it is, whatever its features are; none where nothing does.

    That is its ids, and of rows that are divided by time the time as well: then an id may come again.
    """
    time = (model.split.column,) if model.split.column else ()
    return tuple(dict.fromkeys((*model.id_columns, *time)))


def identities(model: ModelFile, table: Table) -> Hashes | None:
    """Return the hash of each row's identity, (n,), of texts without the blanks around them; None where it has none."""
    columns = [table.trimmed(name).to_pylist() for name in identity_of(model)]
    return hashes_of_texts(zip(*columns, strict=True), len(table)) if columns else None


def _keys(model: ModelFile, table: Table, frame: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    if model.id_columns:
        return zip(*(table.trimmed(name).to_pylist() for name in model.id_columns), strict=True)
    return zip(*(_plain(frame[name]) for name in sorted(model.features)), strict=True)


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Return values as JSON knows them: a missing one is null, a time its text."""
    values = column.tolist()
    if column.dtype == object or not pd.api.types.is_numeric_dtype(column.dtype) or column.hasnans:
        return [
            None if pd.isna(each) else each if isinstance(each, str | bool | int | float) else str(each)
            for each in values
        ]
    return values


def _check(model: ModelFile, table: Table, frame: pd.DataFrame, parts: Parts) -> None:
    wrong = Refusals(table.name)
    labels = frame[model.target].to_numpy(dtype=object)
    for part, rows in parts.named().items():
        if (count := int(rows.sum())) < FEWEST_ROWS:
            wrong.add(f"{part} has {count} of {len(frame):,} rows, and needs {FEWEST_ROWS}")
    for label in sorted(set(labels)) if model.kind is not Task.REGRESSION else ():
        for part in ("train", "evaluation"):
            if not (labels[parts.named()[part]] == label).any():
                wrong.add(f"{part} has none of the {(labels == label).sum():,} rows of label {quoted(label)}")
    ways = "another split.seed or larger fractions" if model.split.by == "hash" else "another split.evaluation_from"
    wrong.end(next=f"add rows, or give {ways} in model.yaml")
