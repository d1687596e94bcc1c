"""What a model answers on chosen rows, so that every replica can prove that it answers the same."""

import numpy as np

from pipelines.domain.description import (
    Answer,
    AnyAnswer,
    ClassAnswer,
    Golden,
    Label,
    Output,
    Task,
    ValueAnswer,
    label_text,
    tolerance_of,
)
from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import CLASSES_KEY, TIE, Scores, ServedModel
from pipelines.packaging.served import request_value
from pipelines.packaging.snapshot import Snapshot

ROWS = 16
# Kept coarser than float32 rounding, so that another processor most likely yields the same bundle.
_DECIMALS = _DIGITS = 6


def golden_rows(model: ServedModel, evaluation: Snapshot, output: Output) -> Golden:
    """Return request rows spread over all classes, or over a target's values, and the answer to each asked alone."""
    rows, expected = [], []
    for position in _spread(evaluation):
        one = evaluation.frame.iloc[[position]]
        rows.append({feature.name: request_value(feature, one[feature.name].iloc[0]) for feature in model.features})
        expected += [_rounded(answer) for answer in answers_of(model.score(one), output)]
    return Golden(rows=tuple(rows), expected=tuple(expected), tolerance=tolerance_of(expected))


def answers_of(scores: Scores, output: Output) -> list[AnyAnswer]:
    """Return scores as the service answers them."""
    if scores.labels is None:
        return [ValueAnswer(prediction=value) for value in scores.values.tolist()]
    labels: dict[str, Label] = {label_text(each): each for each in output.classes}
    # A label that is no class of the bundle stays what it is: no golden row has it.
    answered = [labels.get(text, text) for text in scores.labels]
    if output.positive is not None:
        positives = scores.numbers[:, output.classes.index(output.positive)].tolist()
        return [Answer(prediction=label, probability=p) for label, p in zip(answered, positives, strict=True)]
    return [
        ClassAnswer(prediction=label, probabilities=dict(zip(labels, row, strict=True)))
        for label, row in zip(answered, scores.numbers.tolist(), strict=True)
    ]


def label_columns(scores: Scores, classes: tuple[Label, ...], noted: tuple[str, ...]) -> tuple[Label, ...]:
    """Return the class of each column of probabilities: as a model notes them, or found by what it has answered.

    An ONNX file does not say which column is which in one standard place: the column that is largest must
    carry the label answered. Where Slipway's own note is missing, one class that is never answered has the one
    column left. Raises NotServable when labels and probabilities contradict each other, or the note.
    """
    labels, probabilities = scores.labels, scores.numbers
    assert labels is not None
    known = [label_text(each) for each in classes]
    strangers = sorted(set(labels) - set(known))
    if strangers or probabilities.shape[1] != len(known) or not np.isfinite(probabilities).all():
        raise NotServable(
            f"the ONNX model answers labels {sorted(set(labels))} and {probabilities.shape[1]} probabilities;"
            f" needed are finite ones for the classes {list(known)}",
            next="export a classifier of the target's own labels",
        )
    least, most = float(probabilities.min(initial=0.0)), float(probabilities.max(initial=1.0))
    if least < -TIE or most > 1 + TIE:
        raise NotServable(
            f"the ONNX model answers probabilities from {least:g} to {most:g} on the evaluation rows",
            next="export a classifier that has predict_proba, or wrap it in CalibratedClassifierCV: scores are none",
        )
    clear = scores.clear
    pairs = set(zip(np.argmax(probabilities, axis=1)[clear].tolist(), labels[clear].tolist(), strict=True))
    column_of = {label: column for column, label in pairs}
    by_note = {label: column for column, label in enumerate(noted)}
    if noted and set(noted) != set(known):
        raise NotServable(
            f"the ONNX model says that its classes are {list(noted)}, the evaluation set {known}",
            next="log the evaluation set of the data that it was trained on",
        )
    one_each = len(pairs) == len(column_of) == len({column for column, _ in pairs})
    if not one_each or any(by_note.get(label, column) != column for label, column in column_of.items()):
        raise NotServable(
            "the ONNX model's label is not that of its largest probability on all evaluation rows",
            next="export a classifier whose label is the most probable class",
        )
    column_of = by_note or column_of
    unseen = [label for label in known if label not in column_of]
    if len(unseen) > 1:
        raise NotServable(
            f"the ONNX model never answers {', '.join(map(repr, unseen))} on the evaluation rows, so which of its"
            " probabilities are theirs is not known",
            next=f"write the classes in the order of its columns into its metadata: {CLASSES_KEY}, a JSON list",
        )
    left = set(range(len(known))) - set(column_of.values())
    column_of = {**column_of, **dict(zip(unseen, left, strict=True))}
    return tuple(sorted(classes, key=lambda each: column_of[label_text(each)]))


def _spread(evaluation: Snapshot) -> list[int]:
    """Return up to 16 positions: evenly spaced within the rows of each class, or over the ordered values."""
    truth = evaluation.target.to_numpy()
    if evaluation.description.task is Task.REGRESSION:
        groups = [np.argsort(truth, kind="stable")]
    else:
        groups = [np.flatnonzero(truth == label_text(label)) for label in evaluation.description.classes]
    chosen: set[int] = set()
    for positions in groups:
        count = min(len(positions), max(1, ROWS // len(groups)))
        if count:
            picks = np.linspace(0, len(positions) - 1, count).round().astype(int)
            chosen.update(positions[picks].tolist())
    return sorted(chosen)


def _rounded(answer: AnyAnswer) -> AnyAnswer:
    if isinstance(answer, Answer):
        return answer.model_copy(update={"probability": round(answer.probability, _DECIMALS)})
    if isinstance(answer, ClassAnswer):
        rounded = {text: round(each, _DECIMALS) for text, each in answer.probabilities.items()}
        return answer.model_copy(update={"probabilities": rounded})
    return ValueAnswer(prediction=float(f"{answer.prediction:.{_DIGITS}g}"))
