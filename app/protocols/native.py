"""Slipway's own protocol, /predict and /predict/batch: answers from a request's headers and body alone."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta
from pydantic import BaseModel

from app.errors import RequestError, error_body
from app.model.bundle import Answer
from app.model.microbatch import MicroBatcher
from app.model.schema import RequestSchema
from app.model.scoring import Scorer
from app.openapi import REQUEST_ID, answer, refusals
from app.protocols.request import Headers, Receive, RequestHead, read_body
from app.settings import Settings

ROW_LIMIT_BYTES = 1024 * 1024
BATCH_LIMIT_BYTES = 16 * 1024 * 1024


_Model = Annotated[str, Meta(description="The registered model that answered.")]
_Version = Annotated[str, Meta(description="Its version in the model registry, as text.")]
_RequestId = Annotated[str, Meta(description="The same as the header X-Request-Id.")]


class Prediction(msgspec.Struct):
    """The answer to one row."""

    prediction: Annotated[str, Meta(description="The predicted class.")]
    probability: Annotated[float, Meta(ge=0, le=1, description="P(positive class).")]
    model: _Model
    version: _Version
    request_id: _RequestId


class BatchPrediction(msgspec.Struct):
    """The answers to many rows, in their order."""

    predictions: list[Answer]
    model: _Model
    version: _Version
    request_id: _RequestId


PREDICTION_ANSWERS = (Prediction, BatchPrediction)


class Reply(msgspec.Struct):
    """A finished answer; `body` is JSON."""

    status: int
    body: bytes
    request_id: str


class Predictor:
    """Answers for one release, or with 503 for none."""

    def __init__(self, scorer: Scorer | None, settings: Settings) -> None:
        self._batcher = MicroBatcher(scorer) if scorer else None
        self._model = settings.model or ""
        self._version = settings.version or ""
        # Batches one at a time: two at once would hold twice the memory and be done no sooner.
        self._batches = asyncio.Semaphore(1)
        self._encode = msgspec.json.Encoder().encode

    async def row(self, headers: Headers, receive: Receive) -> Reply:
        """Answer `POST /predict`; raise ClientLeft."""
        head = RequestHead(headers)
        request_id = head.request_id
        try:
            batcher = self._released()
            body = await read_body(head, receive, ROW_LIMIT_BYTES)
            answer = await batcher.score(batcher.scorer.schema.decode_row(body))
        except RequestError as error:
            return Reply(error.status, error_body(error, request_id), request_id)
        prediction = Prediction(answer.prediction, answer.probability, self._model, self._version, request_id)
        return Reply(HTTPStatus.OK, self._encode(prediction), request_id)

    async def batch(self, headers: Headers, receive: Receive) -> Reply:
        """Answer `POST /predict/batch` without holding up the event loop; raise ClientLeft."""
        head = RequestHead(headers)
        request_id = head.request_id
        try:
            scorer = self._released().scorer
            body = await read_body(head, receive, BATCH_LIMIT_BYTES)
            async with self._batches:
                content = await asyncio.to_thread(self._score_batch, scorer, body, request_id)
        except RequestError as error:
            return Reply(error.status, error_body(error, request_id), request_id)
        return Reply(HTTPStatus.OK, content, request_id)

    def _score_batch(self, scorer: Scorer, body: bytes, request_id: str) -> bytes:
        answers = scorer.score_rows(scorer.schema.decode_batch(body))
        return self._encode(BatchPrediction(answers, self._model, self._version, request_id))

    def _released(self) -> MicroBatcher:
        if self._batcher is None:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "no_release", "no release is deployed here")
        return self._batcher


def prediction_router(predictor: Predictor, schema: RequestSchema | None) -> APIRouter:
    """Return the prediction routes, described by the schema of the release that is served."""
    router = APIRouter(tags=["prediction"], default_response_class=Response)
    kinds: list[tuple[str, Callable[[Headers, Receive], Awaitable[Reply]], type[msgspec.Struct], str]] = [
        ("/predict", predictor.row, Prediction, "Predict one row"),
        ("/predict/batch", predictor.batch, BatchPrediction, "Predict many rows"),
    ]
    models = (schema.row_model, schema.batch_model) if schema else (None, None)
    for (path, reply, kind, summary), model in zip(kinds, models, strict=True):
        router.add_api_route(
            path,
            _endpoint(reply),
            methods=["POST"],
            summary=summary,
            operation_id=reply.__name__,
            responses={200: answer(kind, summary, with_request_id=True), **refusals()},
            openapi_extra=_request_body(model) if model else None,
        )
    return router


def _endpoint(
    answer: Callable[[Headers, Receive], Awaitable[Reply]],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        reply = await answer(request.headers.raw, request.receive)
        headers = {REQUEST_ID: reply.request_id}
        return Response(reply.body, reply.status, headers, media_type="application/json")

    return endpoint


def _request_body(model: type[BaseModel]) -> dict[str, Any]:
    # Inlined by pydantic where a reference would point outside this fragment.
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    if definitions:
        schema["properties"]["rows"]["items"] = definitions["Row"]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
