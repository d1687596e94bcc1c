"""Slipway's own protocol, /predict and /predict/batch: answers from a request's headers and body alone."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Response
from msgspec import Meta

from app.errors import RequestError, TooLate
from app.model.description import Answer, ClassAnswer, Label, Task, ValueAnswer
from app.model.microbatch import MicroBatcher
from app.model.sampling import SampledRequests
from app.model.scoring import Scorer
from app.model.slices import decode_in_slices, most_rows
from app.openapi import REF, answer, refusals
from app.protocols.budget import Budget
from app.protocols.reply import DEADLINE_S, Reply, refused
from app.protocols.request import ClientLeft, Receive, RequestHead, read_body
from app.settings import Settings

ROW_PATH = "/predict"
BATCH_PATH = "/predict/batch"
ROW_LIMIT_BYTES = 1024 * 1024
BATCH_LIMIT_BYTES = 16 * 1024 * 1024
# The oldest batch never waits for room: this is what bounds it.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
# What each value takes of a decoded row; the row itself takes as much again.
_VALUE_BYTES = 64
# Names of the forms of requests in the description.
_ROW, _BATCH = "Row", "Batch"


_Model = Annotated[str, Meta(description="The registered model that answered.")]
_Version = Annotated[str, Meta(description="Its version in the model registry, as text.")]
_RequestId = Annotated[str, Meta(description="The same as the header X-Request-Id.")]


class Prediction(Answer, frozen=True):
    """The answer to one row."""

    model: _Model
    version: _Version
    request_id: _RequestId


class ClassPrediction(ClassAnswer, frozen=True):
    """The answer to one row by a model of several classes."""

    model: _Model
    version: _Version
    request_id: _RequestId


class ValuePrediction(ValueAnswer, frozen=True):
    """The answer to one row by a regression."""

    model: _Model
    version: _Version
    request_id: _RequestId


class BatchPrediction(msgspec.Struct):
    """The answers to many rows, in their order."""

    predictions: list[Answer]
    model: _Model
    version: _Version
    request_id: _RequestId


class ClassBatchPrediction(msgspec.Struct):
    """The answers to many rows by a model of several classes, in their order."""

    predictions: list[ClassAnswer]
    model: _Model
    version: _Version
    request_id: _RequestId


class ValueBatchPrediction(msgspec.Struct):
    """The answers to many rows by a regression, in their order."""

    predictions: list[ValueAnswer]
    model: _Model
    version: _Version
    request_id: _RequestId


class Forms(NamedTuple):
    """What is answered to one row, and to many: what the model says, its name and version, and the request's id."""

    row: type[msgspec.Struct]
    batch: type[msgspec.Struct]


_FORMS = {
    Task.BINARY: Forms(Prediction, BatchPrediction),
    Task.MULTICLASS: Forms(ClassPrediction, ClassBatchPrediction),
    Task.REGRESSION: Forms(ValuePrediction, ValueBatchPrediction),
}


def forms_of(scorer: Scorer | None) -> Forms:
    """Return the forms of what a release answers; without one, those of most models."""
    return _FORMS[scorer.task if scorer else Task.BINARY]


class Predictor:
    """Answers for one release, or with 503 for none."""

    def __init__(
        self,
        scorer: Scorer | None,
        settings: Settings,
        budget: Budget,
        *,
        sampled: SampledRequests | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._batcher = MicroBatcher(scorer) if scorer else None
        self._forms = forms_of(scorer)
        self._model = settings.model or ""
        self._version = settings.version or ""
        self._budget = budget
        self._sampled = sampled
        self._deadline_s = deadline_s
        self._encode = msgspec.json.Encoder().encode

    async def row(self, head: RequestHead, receive: Receive) -> Reply:
        """Answer `POST /predict`; raise ClientLeft."""
        request_id = head.request_id
        try:
            batcher = self._released()
            body = await read_body(head, receive, ROW_LIMIT_BYTES, self._budget)
            row = batcher.scorer.schema.decode_row(body)
            answer = await batcher.score(row)
        except RequestError as error:
            return refused(error, request_id)
        if self._sampled:
            self._sampled.note(request_id, row, answer, len(body))
        prediction = self._forms.row(*msgspec.structs.astuple(answer), self._model, self._version, request_id)
        return Reply(HTTPStatus.OK, self._encode(prediction), request_id)

    async def batch(self, head: RequestHead, receive: Receive) -> Reply:
        """Answer `POST /predict/batch` slice by slice, so that others are answered between; raise ClientLeft."""
        try:
            batcher = self._released()
            body = await read_body(head, receive, BATCH_LIMIT_BYTES, self._budget)
            async with asyncio.timeout(self._deadline_s):
                content = await self._score_batch(batcher, head, body, receive)
        except TimeoutError:
            return refused(TooLate(f"the batch was not done within {self._deadline_s:g} s"), head.request_id)
        except RequestError as error:
            return refused(error, head.request_id)
        empty = self._encode(self._forms.batch([], self._model, self._version, head.request_id))
        opening, listed, closing = empty.partition(b"[]")
        # In place, over the first comma: a copy would double what the answers take.
        content[:1] = opening + listed[:1]
        content += listed[1:] + closing
        return Reply(HTTPStatus.OK, content, head.request_id)

    async def _score_batch(
        self, batcher: MicroBatcher, head: RequestHead, body: bytes | bytearray, receive: Receive
    ) -> bytearray:
        """Return the answers as JSON, a comma in front of each; what is held for them counts before it is kept."""
        schema = batcher.scorer.schema
        await self._budget.grow(head, most_rows(schema, body) * (1 + len(schema.attributes)) * _VALUE_BYTES)
        slices = decode_in_slices(schema, body)
        noted = self._sampled.of_batch(head.request_id, body) if self._sampled else None
        content = bytearray()
        # With the whole body read, the next thing that is received is that the client has left.
        left = asyncio.ensure_future(receive())
        try:
            while (rows := await batcher.stretch(lambda: next(slices, None))) is not None:
                scored = 0
                while scored < len(rows):
                    if left.done():
                        raise ClientLeft
                    answers = await batcher.score_some(rows, scored)
                    if noted:
                        noted.note(rows[scored : scored + len(answers)], answers)
                    scored += len(answers)
                    await self._add(head, content, self._encode(answers))
        finally:
            left.cancel()
        return content

    async def _add(self, head: RequestHead, content: bytearray, listed: bytes) -> None:
        await self._budget.grow(head, len(listed))
        if len(content) + len(listed) > ANSWER_LIMIT_BYTES:
            text = f"the answers take more than {ANSWER_LIMIT_BYTES:,} bytes; send fewer rows at a time"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text)
        content += b"," + listed[1:-1]

    def _released(self) -> MicroBatcher:
        if self._batcher is None:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "no_release", "no release is deployed here")
        return self._batcher


def prediction_router(scorer: Scorer | None) -> APIRouter:
    """Return the description of the prediction routes by the schema of the release that is served."""
    router = APIRouter(tags=["prediction"], default_response_class=Response)
    forms = forms_of(scorer)
    kinds: list[tuple[str, str, str, type[msgspec.Struct], str]] = [
        (ROW_PATH, "predict", _ROW, forms.row, "Predict one row"),
        (BATCH_PATH, "predict_batch", _BATCH, forms.batch, "Predict many rows"),
    ]
    for path, name, request, kind, summary in kinds:
        content = {"application/json": {"schema": {"$ref": REF.format(name=request)}}}
        router.add_api_route(
            path,
            _answered_before,
            methods=["POST"],
            summary=summary,
            description="Fields that may not be null are required; unknown ones are refused.",
            operation_id=name,
            responses={200: answer(kind, summary, with_request_id=True), **refusals()},
            openapi_extra={"requestBody": {"required": True, "content": content}} if scorer else None,
        )
    return router


def prediction_schemas(scorer: Scorer | None) -> dict[str, Any]:
    """Return what the description refers to: the forms of requests by the schema of the release, those of answers.

    A class is described by the classes that there are. Whoever generates a client of it gets types of them.
    """
    forms = forms_of(scorer)
    _, schemas = msgspec.json.schema_components(forms, ref_template=REF)
    if scorer is None:
        return schemas
    for schema in schemas.values() if scorer.classes else ():
        if "prediction" in schema["properties"]:
            described = schema["properties"]["prediction"]["description"]
            schema["properties"]["prediction"] = {**_label_schema(scorer.classes), "description": described}
    request = scorer.schema.batch_model.model_json_schema(ref_template=REF.format(name="{model}"))
    return {**schemas, **request.pop("$defs"), _BATCH: request}


async def _answered_before() -> None:
    """Stand for a route that is answered before the framework sees the request."""


def _label_schema(classes: Sequence[Label]) -> dict[str, Any]:
    # All are of one type, or the bundle would have been refused.
    kind = type(classes[0])
    if kind in (str, int):
        return {"type": "string" if kind is str else "integer", "enum": list(classes)}
    # Two truths are the type itself, and generators know no choice of fractions.
    return {"type": "boolean" if kind is bool else "number"}
