"""Who sends: a client that scores rows one by one, one that scores batches, and one that makes mistakes.

Each has bodies drawn from the same rows, and its own idea of a right answer.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from loadtests.plan.strict import STRICT, refusal
from loadtests.samples import OK, Persona

BATCH_ROWS = 20
JSON = "application/json"
REFUSALS = frozenset({400, 415, 422})
UNKNOWN_FIELD = "no_such_field"
_LABEL = str | int | float | bool
# Shares are ratios of weights, which must be numbers still.
MAX_WEIGHT = 1e9


BATCH_SUFFIX = "/batch"
Mix = tuple[tuple[Persona, float], ...]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
Weights = Annotated[dict[Persona, Weight], Field(min_length=1)]
ONLY_SINGLE: Mix = ((Persona.SINGLE, 1.0),)


@dataclass(frozen=True)
class Request:
    """What is sent where; `predictions` are those that a right answer holds, 0 where it is a refusal."""

    persona: Persona
    route: str
    body: bytes
    predictions: int
    content_type: str = JSON

    @property
    def name(self) -> str:
        """Name it for Locust's statistics, in which mistakes are a line of their own."""
        return f"{self.route} (mistakes)" if self.persona is Persona.MISTAKEN else self.route


@dataclass(frozen=True)
class Reply:
    """A reply as the persona that asked reads it: `error` is empty where it is right, `version` where it names none."""

    version: str
    error: str


def read_mix(text: str) -> Mix:
    """Read weights by persona from `single=9,batch=1`; raise ValueError saying what is wrong."""
    pairs = [part.partition("=") for part in text.split(",")]
    weights = {name.strip(): _number(weight) for name, _, weight in pairs}
    try:
        return shares_of(TypeAdapter(Weights, config=STRICT).validate_json(json.dumps(weights)))
    except ValidationError as error:
        raise ValueError(refusal(error, "mix")) from error


def shares_of(weights: Mapping[Persona, float]) -> Mix:
    """Return the share of each persona that has a weight."""
    total = sum(weights.values())
    return tuple((persona, weights[persona] / total) for persona in Persona if persona in weights)


def scorer_of(path: str) -> Persona:
    """Return the persona that is answered on a path."""
    return Persona.BATCH if path.endswith(BATCH_SUFFIX) else Persona.SINGLE


def requests_of(persona: Persona, rows: Sequence[dict[str, Any]], path: str) -> tuple[Request, ...]:
    """Return what the persona can send, made of the rows beforehand: no request is built while it is due.

    `path` may be that of rows or that of batches; each persona takes its own of the two.
    """
    path = path.removesuffix(BATCH_SUFFIX)
    if persona is Persona.SINGLE:
        return tuple(Request(persona, path, json.dumps(row).encode(), 1) for row in rows)
    if persona is Persona.BATCH:
        batches = [rows[first : first + BATCH_ROWS] for first in range(0, len(rows), BATCH_ROWS)]
        route = f"{path}{BATCH_SUFFIX}"
        return tuple(Request(persona, route, json.dumps({"rows": batch}).encode(), len(batch)) for batch in batches)
    return tuple(request for row in rows for request in _mistakes(row, path))


def check_reply(request: Request, status: int, reply: bytes) -> Reply:
    """Read a whole reply as the persona that asked does."""
    if not request.predictions:
        return Reply("", "" if status in REFUSALS else f"status {status} for a mistake")
    if status != OK:
        return Reply("", f"status {status}")
    try:
        body = json.loads(reply)
    except (ValueError, RecursionError):
        return Reply("", "body is not JSON")
    if not isinstance(body, dict):
        return Reply("", "body is no object")
    version = body.get("version")
    return Reply(version if isinstance(version, str) else "", _mistake_in(_predictions(request, body), request))


def _predictions(request: Request, body: dict[str, Any]) -> list[Any]:
    if request.persona is Persona.SINGLE:
        return [body] if "prediction" in body else []
    predictions = body.get("predictions")
    return predictions if isinstance(predictions, list) else []


def _mistake_in(predictions: list[Any], request: Request) -> str:
    if len(predictions) != request.predictions:
        return f"{len(predictions)} predictions instead of {request.predictions}"
    return "" if all(map(_is_prediction, predictions)) else "a prediction that is no answer of any task"


def _is_prediction(value: Any) -> bool:
    """Whether it is a class with its probability or with those of all, or a finite number."""
    if not isinstance(value, dict):
        return False
    prediction, probabilities = value.get("prediction"), value.get("probabilities")
    if "probability" in value:
        return isinstance(prediction, _LABEL) and _is_probability(value["probability"])
    if isinstance(probabilities, dict):
        return isinstance(prediction, _LABEL) and all(map(_is_probability, probabilities.values()))
    return isinstance(prediction, int | float) and not isinstance(prediction, bool) and math.isfinite(prediction)


def _is_probability(value: Any) -> bool:
    # NaN compares false.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _mistakes(row: dict[str, Any], path: str) -> list[Request]:
    """Return what a careless client makes of a row: cut off, mislabelled, in a list, and with wrong fields.

    None of it leaves a field out: that is no mistake where the field may be missing.
    """
    text = json.dumps(row)
    first = next(iter(row), UNKNOWN_FIELD)
    bodies = [
        (text[:-1], JSON),
        (text, "text/plain"),
        (json.dumps([row]), JSON),
        (json.dumps({**row, UNKNOWN_FIELD: 1}), JSON),
        (json.dumps({**row, first: [row.get(first)]}), JSON),
    ]
    return [Request(Persona.MISTAKEN, path, body.encode(), 0, kind) for body, kind in bodies]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
