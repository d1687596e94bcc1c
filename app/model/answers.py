"""Reads a model's outputs as answers: a class with its probability, with those of all classes, or a number."""

import math
from http import HTTPStatus
from typing import Any

import numpy as np

from app.errors import RequestError
from app.model.description import Answer, AnyAnswer, ClassAnswer, Description, Label, Task, ValueAnswer


class ClassReader:
    """Reads labels (N,) and probabilities (N, C); `positive` is the column that is answered, None for all."""

    def __init__(self, description: Description) -> None:
        onnx, output = description.onnx, description.output
        self.outputs = [onnx.label, onnx.probabilities]
        self._labels: dict[str, Label] = {label_text(each): each for each in output.classes}
        self._texts = list(self._labels)
        self._positive = None if output.positive is None else output.classes.index(output.positive)

    def one(self, outputs: list[Any]) -> AnyAnswer:
        """Return the answer to a row; raise RequestError (422) for a number that is none."""
        labels, probabilities = outputs
        if self._positive is not None:
            probability = float(probabilities[0, self._positive])
            if not math.isfinite(probability):
                raise no_prediction()
            return Answer(self._label(labels[0]), probability)
        return self.many(outputs)[0]

    def many(self, outputs: list[Any]) -> list[AnyAnswer]:
        """Return the answers to N rows; raises as `one` does."""
        labels, probabilities = outputs
        if self._positive is not None:
            positives = probabilities[:, self._positive]
            if not np.isfinite(positives).all():
                raise no_prediction()
            pairs = zip(labels.tolist(), positives.tolist(), strict=True)
            return [Answer(self._label(label), probability) for label, probability in pairs]
        if not np.isfinite(probabilities).all():
            raise no_prediction()
        rows = zip(labels.tolist(), probabilities.tolist(), strict=True)
        return [ClassAnswer(self._label(label), dict(zip(self._texts, row, strict=True))) for label, row in rows]

    def _label(self, label: Any) -> Label:
        found = self._labels.get(str(label))
        if found is None:
            raise no_prediction()
        return found


class ValueReader:
    """Reads the values of a regression, (N,) or (N, 1)."""

    def __init__(self, description: Description) -> None:
        self.outputs = [description.onnx.value]

    def one(self, outputs: list[Any]) -> AnyAnswer:
        """Return the answer to a row; raise RequestError (422) for a number that is none."""
        return self.many(outputs)[0]

    def many(self, outputs: list[Any]) -> list[AnyAnswer]:
        """Return the answers to N rows; raises as `one` does."""
        values = outputs[0].reshape(-1)
        if not np.isfinite(values).all():
            raise no_prediction()
        return [ValueAnswer(value) for value in values.tolist()]


def reader_of(description: Description) -> ClassReader | ValueReader:
    """Return what reads the outputs of a model."""
    return ValueReader(description) if description.task is Task.REGRESSION else ClassReader(description)


def label_text(label: Label) -> str:
    """Return a class as the model's label output says it, and as a key of JSON."""
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


def difference(answer: AnyAnswer, expected: AnyAnswer) -> float:
    """Return the largest difference of a number in two answers of one task; infinite where the classes differ."""
    if isinstance(answer, ValueAnswer) and isinstance(expected, ValueAnswer):
        return abs(answer.prediction - expected.prediction)
    if answer.prediction != expected.prediction:
        return math.inf
    if isinstance(answer, Answer) and isinstance(expected, Answer):
        return abs(answer.probability - expected.probability)
    assert isinstance(answer, ClassAnswer) and isinstance(expected, ClassAnswer)
    if answer.probabilities.keys() != expected.probabilities.keys():
        return math.inf
    return max(abs(value - expected.probabilities[text]) for text, value in answer.probabilities.items())


def no_prediction() -> RequestError:
    """Return the refusal of a row that the model has no answer to."""
    message = "the model gives no finite answer for these values"
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "no_prediction", message)
