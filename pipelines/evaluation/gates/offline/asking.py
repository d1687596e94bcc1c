"""Asks a model as the service does: rows alone and in slices of its sizes, in an order that no author foresees.

A model sees how many rows it is asked at once. Asked for a whole evaluation set it could tell that it is measured, and
answer its clients otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import Scores, ServedModel
from pipelines.packaging.served import model_values

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# The service asks for no more at once, and mostly for one.
MOST_ROWS = 512
ROWS_ALONE = 256
TOLERANCE = 1e-5


def ask_as_served(model: ServedModel, frame: "pd.DataFrame") -> Scores:
    """Score the rows of `frame`; raise NotServable when an answer depends on the rows that are asked with it."""
    random = np.random.default_rng()
    order = random.permutation(len(frame))
    # Without any rows the model is asked for none.
    slices = list(_slices(order, random)) or [order]
    # Once for all: what a model takes of a row depends on the row alone.
    feeds = model.feeds(frame)
    answers = [model.answer(feeds, rows) for rows in slices]
    labels = None if answers[0].labels is None else np.concatenate([each.labels for each in answers])
    asked = Scores(np.concatenate([each.numbers for each in answers]), labels).take(np.argsort(order))
    usual = float(np.median(np.abs(asked.numbers))) if len(frame) else 0.0
    for row in random.permutation(len(frame))[:ROWS_ALONE]:
        alone, among = model.answer(feeds, np.array([row])), asked.take(np.array([row]))
        if not _same(alone, among, usual):
            raise NotServable(
                f"the ONNX model answers {_shown(alone)} to row {row + 1} of the evaluation set alone, and"
                f" {_shown(among)} among others",
                next="export a model that answers each row by its own values alone",
            )
    return asked


def in_slices(model: ServedModel, feeds: "Mapping[str, NDArray[Any]]") -> Scores:
    """Score the rows of `feeds`, (n, width) by input, never more at once than the service does; n is at least 1."""
    rows = np.arange(len(next(iter(feeds.values()))))
    answers = [model.answer(feeds, rows[at : at + MOST_ROWS]) for at in range(0, len(rows), MOST_ROWS)]
    labels = None if answers[0].labels is None else np.concatenate([each.labels for each in answers])
    return Scores(np.concatenate([each.numbers for each in answers]), labels)


def completed(frame: "pd.DataFrame", features: Iterable[Feature]) -> "pd.DataFrame":
    """Return `frame` with a column of missing values for each feature that it lacks and that may be missing."""
    lacking = [each.name for each in features if each.nullable and each.name not in frame.columns]
    return frame.assign(**dict.fromkeys(lacking)) if lacking else frame


def taken(frame: "pd.DataFrame", features: Iterable[Feature]) -> "NDArray[np.bool_]":
    """Tell of each row whether the service takes it as a request of these features, (n,).

    A column whose values are of another type makes a request of none.
    """
    rows = np.ones(len(frame), dtype=bool)
    for feature in features:
        column = frame[feature.name]
        try:
            rows &= np.where(column.isna(), feature.nullable, _fits(model_values(column, feature), feature))
        except (ArithmeticError, TypeError, ValueError):
            rows[:] = False
    return rows


def _fits(values: "NDArray[Any]", feature: Feature) -> "NDArray[np.bool_]":
    if not feature.type.is_text:
        low = -np.inf if feature.minimum is None else feature.minimum
        high = np.inf if feature.maximum is None else feature.maximum
        whole = feature.type is not FeatureType.INTEGER or values == np.round(values)
        fits: NDArray[Any] = np.isfinite(values) & (values >= low) & (values <= high) & whole
        return fits
    known = {text for text in set(values) if isinstance(text, str) and feature.takes_text(text)}
    return np.array([text in known for text in values], dtype=bool)


def _slices(order: "NDArray[np.int_]", random: np.random.Generator) -> "Iterator[NDArray[np.int_]]":
    """Cut an order into pieces, of each magnitude one in turn, until it ends."""
    at = 0
    while at < len(order):
        for most in random.permutation([2**power for power in range(MOST_ROWS.bit_length())]):
            size = int(random.integers(most // 2 + 1, most + 1))
            if at < len(order):
                yield order[at : at + size]
            at += size


def _same(one: Scores, other: Scores, usual: float) -> bool:
    """Whether two answers to one row are the same, but for the rounding of sums in another order.

    `usual` is the size that answers have by the median. The terms of a sum are as large as that also where they cancel
    each other, and so is their rounding.
    """
    numbers, others = one.numbers[0], other.numbers[0]
    scale = 1.0 if one.labels is not None else np.nanmax([1.0, usual, float(np.max(np.abs(others)))])
    if not np.allclose(numbers, others, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
        return False
    if one.labels is None or other.labels is None:
        return True
    return bool(one.labels[0] == other.labels[0] or not other.clear[0])


def _shown(one: Scores) -> str:
    numbers = str(one.numbers[0].round(6).tolist())
    return numbers if one.labels is None else f"{one.labels[0]} {numbers}"
