"""The routes of the service and their description; what predictions answer is decided in `predict`."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.metrics import Metrics
from app.model.schema import RequestSchema
from app.protocols.native import Headers, Predictor, Receive, Reply
from app.settings import Settings

REQUEST_ID = "X-Request-Id"
NO_RELEASE = "no release"
DRAINING = "draining"


@dataclass
class Readiness:
    """Whether the replica takes requests: `reason` says why not, None that it does."""

    reason: str | None


class Health(BaseModel):
    """What is served here."""

    stage: str
    status: str
    model: str | None
    version: str | None
    digest: str | None


class Score(BaseModel):
    """A class and P(positive class)."""

    prediction: str
    probability: float = Field(ge=0, le=1)


class ScoreReply(Score):
    """The answer to one row."""

    model: str
    version: str
    request_id: str


class BatchReply(BaseModel):
    """The answers to many rows, in their order."""

    predictions: list[Score]
    model: str
    version: str
    request_id: str


class Fault(BaseModel):
    """One refused field."""

    field: str
    message: str


class ErrorContent(BaseModel):
    """Why a request was refused."""

    code: str
    message: str
    fields: list[Fault]
    request_id: str


class ErrorReply(BaseModel):
    """The body of every refusal."""

    error: ErrorContent


def state_router(settings: Settings, readiness: Readiness, metrics: Metrics) -> APIRouter:
    """Return the routes that say what the replica is and how it does."""
    router = APIRouter(tags=["state"])

    @router.get("/health")
    async def health() -> Health:
        """Say what is served; 200 while the process lives."""
        return Health(
            stage=settings.stage,
            status="ok" if settings.bundle_dir else NO_RELEASE,
            model=settings.model,
            version=settings.version,
            digest=settings.bundle_digest,
        )

    @router.get("/ready", responses={503: {"description": "Not ready, with the reason"}})
    async def ready() -> JSONResponse:
        """Answer 200 with digest, version and pid when requests are taken, else 503 with the reason."""
        if readiness.reason:
            content: dict[str, Any] = {"reason": readiness.reason, "pid": os.getpid()}
            return JSONResponse(content, HTTPStatus.SERVICE_UNAVAILABLE)
        content = {"digest": settings.bundle_digest, "version": settings.version, "pid": os.getpid()}
        return JSONResponse(content)

    @router.get("/metrics")
    async def prometheus() -> Response:
        """Return counts and latencies as Prometheus text."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    return router


def prediction_router(predictor: Predictor, schema: RequestSchema | None) -> APIRouter:
    """Return the prediction routes, described by the schema of the release that is served."""
    router = APIRouter(tags=["prediction"])
    kinds: list[tuple[str, Callable[[Headers, Receive], Awaitable[Reply]], type[BaseModel], str]] = [
        ("/predict", predictor.row, ScoreReply, "Predict one row"),
        ("/predict/batch", predictor.batch, BatchReply, "Predict many rows"),
    ]
    models = (schema.row_model, schema.batch_model) if schema else (None, None)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorReply} for status in (400, 408, 413, 415, 422, 503)
    }
    for (path, answer, reply_model, summary), model in zip(kinds, models, strict=True):
        router.add_api_route(
            path,
            _endpoint(answer),
            methods=["POST"],
            summary=summary,
            operation_id=answer.__name__,
            response_class=Response,
            responses={200: {"model": reply_model}, **refusals},
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
