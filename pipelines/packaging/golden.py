"""What a model answers on chosen rows, so that every replica can prove that it answers the same."""

from typing import Any

import numpy as np

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import GOLDEN_TOLERANCE, Answer, Golden
from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import CLASSES_KEY, OnnxModel
from pipelines.packaging.snapshot import Snapshot

ROWS = 16
# Kept coarser than float32 rounding, so that another processor most likely yields the same bundle.
_DECIMALS = 6


def golden_rows(
    model: OnnxModel, evaluation: Snapshot, features: tuple[Feature, ...], *, positive_index: int
) -> Golden:
    """Return request rows spread over all classes, and the answer to each of them asked alone."""
    rows, expected = [], []
    for position in _spread(evaluation):
        one = evaluation.frame.iloc[[position]]
        scores = model.score(one, positive_index=positive_index)
        rows.append({feature.name: request_value(feature, one[feature.name].iloc[0]) for feature in features})
        probability = round(float(scores.probabilities[0]), _DECIMALS)
        expected.append(Answer(prediction=str(scores.labels[0]), probability=probability))
    return Golden(rows=tuple(rows), expected=tuple(expected), tolerance=GOLDEN_TOLERANCE)


def label_columns(model: OnnxModel, evaluation: Snapshot) -> tuple[str, ...]:
    """Return the class of each column of `probabilities`: what the model says of itself, or found by asking it.

    An ONNX file does not say which column is which in one standard place: the column that is largest must
    carry the label answered. Where Slipway's own note is missing, one class that is never answered has the one
    column left. Raises NotServable when labels and probabilities contradict each other, or the note.
    """
    labels, probabilities = model.run(evaluation.frame)
    known = evaluation.description.classes
    strangers = sorted(set(labels) - set(known))
    if strangers or probabilities.shape[1] != len(known) or not np.isfinite(probabilities).all():
        raise NotServable(
            f"the ONNX model answers labels {sorted(set(labels))} and {probabilities.shape[1]} probabilities;"
            f" needed are finite ones for the classes {list(known)}",
            next="export a classifier of the target's own labels",
        )
    largest = np.sort(probabilities, axis=1)
    # In a tie either label is right.
    clear = largest[:, -1] - largest[:, -2] > GOLDEN_TOLERANCE
    pairs = set(zip(np.argmax(probabilities, axis=1)[clear].tolist(), labels[clear].tolist(), strict=True))
    column_of = {label: column for column, label in pairs}
    noted = {label: column for column, label in enumerate(model.classes)}
    if noted and set(noted) != set(known):
        raise NotServable(
            f"the ONNX model says that its classes are {list(model.classes)}, the evaluation set {list(known)}",
            next="log the evaluation set of the data that it was trained on",
        )
    one_each = len(pairs) == len(column_of) == len({column for column, _ in pairs})
    if not one_each or any(noted.get(label, column) != column for label, column in column_of.items()):
        raise NotServable(
            "the ONNX model's label is not that of its largest probability on all evaluation rows",
            next="export a classifier whose label is the most probable class",
        )
    column_of = noted or column_of
    unseen = [label for label in known if label not in column_of]
    if len(unseen) > 1:
        raise NotServable(
            f"the ONNX model never answers {', '.join(map(repr, unseen))} on the evaluation rows, so which of its"
            " probabilities are theirs is not known",
            next=f"write the classes in the order of its columns into its metadata: {CLASSES_KEY}, a JSON list",
        )
    left = set(range(len(known))) - set(column_of.values())
    column_of = {**column_of, **dict(zip(unseen, left, strict=True))}
    return tuple(sorted(known, key=lambda label: column_of[label]))


def _spread(evaluation: Snapshot) -> list[int]:
    """Return up to 16 positions, evenly spaced within the rows of each class."""
    truth = evaluation.target.to_numpy(dtype=object)
    classes = evaluation.description.classes
    chosen: set[int] = set()
    for label in classes:
        positions = np.flatnonzero(truth == label)
        count = min(len(positions), max(1, ROWS // len(classes)))
        if count:
            picks = np.linspace(0, len(positions) - 1, count).round().astype(int)
            chosen.update(positions[picks].tolist())
    return sorted(chosen)


def request_value(feature: Feature, value: Any) -> int | float | str:
    """Return a value of the evaluation set as a request carries it."""
    if feature.type is FeatureType.CATEGORY:
        return str(value)
    return int(value) if feature.type is FeatureType.INTEGER else float(value)
