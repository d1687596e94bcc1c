"""Reads what a replica tells of its sampled requests: strictly, by the schema of the bundle that it serves.

A replica is Slipway's own code, but what stands in its rows are words of strangers. What does not fit is left out and
counted; nothing of it ends the reading of the rest.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import (
    Answer,
    AnyAnswer,
    ClassAnswer,
    Description,
    Output,
    Task,
    ValueAnswer,
    label_text,
)
from pipelines.errors import Undecided

_ANSWERS: dict[Task, type[AnyAnswer]] = {
    Task.BINARY: Answer,
    Task.MULTICLASS: ClassAnswer,
    Task.REGRESSION: ValueAnswer,
}
# A replica holds no more rows than these, and knows no larger number.
MOST_ROWS = 10_000
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
# Sequence number, seconds since 1970, request id, row in its batch, answer, values in the order of the features.
_Entry = tuple[_Count, float, _RequestId, _Count, dict[str, Any], list[Any]]


class Told(BaseModel):
    """What a replica has answered, its rows not looked at yet.

    `boot` is what it calls itself since its start; `seen` are the rows that it has answered, and `sampled` those of
    them that it has kept, the last of which has this number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    boot: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    digest: _Digest
    version: Annotated[str, Field(pattern="^[0-9]{1,18}$")]
    seen: _Count
    sampled: _Count
    features: Annotated[tuple[str, ...], Field(max_length=10_000)]
    entries: Annotated[tuple[_Entry, ...], Field(max_length=MOST_ROWS)]


@dataclass(frozen=True)
class Sampled:
    """One answered row: `number` is its place in its request, `values` what it had in the features that are kept."""

    seq: int
    at: datetime
    request_id: str
    number: int
    answer: AnyAnswer
    values: tuple[Any, ...]


def read_told(content: bytes) -> Told:
    """Return what a replica has answered; raise Undecided when it has another form."""
    try:
        return Told.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Undecided(
            f"a replica told of its requests in another form: {place}: {first['msg']}",
            next="have it run the same Slipway as the executor: release again",
        ) from None


def kept_features(told: Told, description: Description) -> tuple[Feature, ...]:
    """Return the features that a replica has kept, in its order; raise Undecided for one that its bundle has not."""
    known = {each.name: Feature.read(each) for each in description.features}
    if len(set(told.features)) != len(told.features) or not known.keys() >= set(told.features):
        raise Undecided("a replica told of features that its bundle does not have", next="release again")
    return tuple(known[name] for name in told.features)


def read_rows(told: Told, description: Description, *, after: int) -> list[Sampled]:
    """Return the rows behind a number that fit the schema of the bundle, in their order."""
    features = kept_features(told, description)
    found = (_read_row(entry, features, description) for entry in told.entries if entry[0] > after)
    return [row for row in found if row is not None]


def read_answer(body: Any, task: Task, output: Output) -> AnyAnswer | None:
    """Return an answer of a model of a task; None for what is none."""
    try:
        answer = _ANSWERS[task].model_validate(body)
    except ValidationError:
        return None
    if isinstance(answer, ValueAnswer):
        return answer if math.isfinite(answer.prediction) else None
    classes = {label_text(each) for each in output.classes}
    if label_text(answer.prediction) not in classes:
        return None
    if isinstance(answer, ClassAnswer):
        numbers, same = tuple(answer.probabilities.values()), answer.probabilities.keys() == classes
        return answer if same and all(map(math.isfinite, numbers)) else None
    return answer if math.isfinite(answer.probability) else None


def answered(answer: AnyAnswer) -> tuple[str | float, list[float]]:
    """Return the label as text, or the number; and P(positive), or P of each class in the order of their texts."""
    if isinstance(answer, Answer):
        return label_text(answer.prediction), [float(answer.probability)]
    if isinstance(answer, ClassAnswer):
        numbers = answer.probabilities
        return label_text(answer.prediction), [float(numbers[text]) for text in sorted(numbers)]
    return float(answer.prediction), []


def _read_row(entry: _Entry, features: tuple[Feature, ...], description: Description) -> Sampled | None:
    seq, at, request_id, number, body, values = entry
    answer = read_answer(body, description.task, description.output)
    if answer is None or len(values) != len(features):
        return None
    try:
        read = tuple(_value(feature, value) for feature, value in zip(features, values, strict=True))
        return Sampled(seq, datetime.fromtimestamp(at, UTC), request_id, number, answer, read)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _value(feature: Feature, value: Any) -> Any:
    """Return a value as its feature has it; raise ValueError or TypeError where the feature does not take it."""
    if isinstance(value, (list, dict)) or not feature.takes(value):
        raise ValueError(f"{feature.name} does not take it")
    if value is None:
        return None
    if feature.type is FeatureType.INTEGER:
        return int(value)
    if feature.type is FeatureType.NUMBER:
        return float(value)
    if feature.type is FeatureType.DATE:
        return date.fromisoformat(value)
    if feature.type is FeatureType.DATETIME:
        moment = datetime.fromisoformat(value)
        # At either end of the calendar there are moments that it has no date for in UTC.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value
