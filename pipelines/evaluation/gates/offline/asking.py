"""Asks a model as the service does: rows alone and in slices of its sizes, in an order that no author foresees.

A model sees how many rows it is asked at once. Asked for a whole evaluation set it could tell that it is measured, and
answer its clients otherwise.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import OnnxModel, Scores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# The service asks for no more at once, and mostly for one.
MOST_ROWS = 512
ROWS_ALONE = 256
TOLERANCE = 1e-5


def ask_as_served(model: OnnxModel, frame: "pd.DataFrame", *, positive_index: int) -> Scores:
    """Score the rows of `frame`; raise NotServable when an answer depends on the rows that are asked with it."""
    random = np.random.default_rng()
    order = random.permutation(len(frame))
    # Without any rows the model is asked for none.
    slices = list(_slices(order, random)) or [order]
    answers = [model.run(frame.iloc[rows]) for rows in slices]
    where = np.argsort(order)
    labels = np.concatenate([each for each, _ in answers])[where]
    probabilities = np.concatenate([each for _, each in answers])[where]
    for row in random.permutation(len(frame))[:ROWS_ALONE]:
        (label,), (alone,) = model.run(frame.iloc[[row]])
        if not _same(str(label), alone, str(labels[row]), probabilities[row]):
            raise NotServable(
                f"the ONNX model answers {label} {alone.round(6).tolist()} to row {row + 1} of the evaluation set"
                f" alone, and {labels[row]} {probabilities[row].round(6).tolist()} among others",
                next="export a model that answers each row by its own values alone",
            )
    return Scores(labels, probabilities[:, positive_index])


def _slices(order: "NDArray[np.int_]", random: np.random.Generator) -> "Iterator[NDArray[np.int_]]":
    """Cut an order into pieces, of each magnitude one in turn, until it ends."""
    at = 0
    while at < len(order):
        for most in random.permutation([2**power for power in range(MOST_ROWS.bit_length())]):
            size = int(random.integers(most // 2 + 1, most + 1))
            if at < len(order):
                yield order[at : at + size]
            at += size


def _same(label: str, probabilities: "NDArray[np.float64]", other_label: str, others: "NDArray[np.float64]") -> bool:
    near = np.allclose(probabilities, others, rtol=0, atol=TOLERANCE, equal_nan=True)
    # In a tie either label is right.
    tied = len(others) > 1 and np.diff(np.sort(others)[-2:])[0] <= TOLERANCE
    return bool(near and (label == other_label or tied))
