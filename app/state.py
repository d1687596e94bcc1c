"""The routes that say what the replica is and how it does: /health, /ready and /metrics."""

import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from msgspec import Meta

from app.metrics import Metrics
from app.openapi import answer
from app.runtime import PATH as RUNTIME_PATH
from app.runtime import describe as describe_runtime
from app.settings import Settings

NO_RELEASE = "no release"
DRAINING = "draining"
MISDIRECTED = "another release is asked for"
# What a replica without a release is asked for by.
NO_DIGEST = "none"
_TEXT = "text/plain; version=0.0.4"


@dataclass
class Readiness:
    """Whether the replica takes requests: `reason` says why not, None that it does.

    `restarts` counts the workers that this one replaced.
    """

    reason: str | None
    restarts: int = 0


class Health(msgspec.Struct):
    """What is served here."""

    stage: Annotated[str, Meta(description="`Staging` or `Production`.")]
    status: Annotated[str, Meta(description="`ok`, or `no release`.")]
    model: Annotated[str | None, Meta(description="The registered model.")]
    version: Annotated[str | None, Meta(description="Its version in the model registry, as text.")]
    digest: Annotated[str | None, Meta(description="SHA-256 of the bundle, as `sha256:` and 64 hexadecimal digits.")]


class Ready(msgspec.Struct):
    """The replica takes requests."""

    digest: Annotated[str | None, Meta(description="SHA-256 of the bundle that is served.")]
    version: Annotated[str | None, Meta(description="Its version in the model registry, as text.")]
    pid: Annotated[int, Meta(description="The process that answered.")]
    restarts: Annotated[int, Meta(description="How often the replica had to replace a process that died or hung.")]


class NotReady(msgspec.Struct):
    """The replica takes no requests."""

    reason: Annotated[
        str,
        Meta(
            description="`no release`; `draining` while the replica stops; or `another release is asked for`, where the"
            " digests that the request names are not the replica's."
        ),
    ]
    pid: Annotated[int, Meta(description="The process that answered.")]


STATE_ANSWERS = (Health, Ready, NotReady)
Digests = Annotated[
    list[str] | None,
    Query(
        alias="digest",
        description="Bundles that may answer, `none` for a replica without one. A replica with another is not the one"
        " that is asked for: so one that comes back after it was replaced gets no requests.",
    ),
]


def state_router(settings: Settings, readiness: Readiness, metrics: Metrics) -> APIRouter:
    """Return the routes that say what the replica is and how it does."""
    router = APIRouter(tags=["state"], default_response_class=Response)
    own = settings.bundle_digest or NO_DIGEST
    health_answers: dict[int | str, dict[str, object]] = {
        200: answer(Health, "What is served, while the process lives"),
        503: answer(NotReady, "Another release is asked for"),
    }

    @router.get("/health", operation_id="health", responses=health_answers)
    async def health(digests: Digests = None) -> Response:
        """Say what is served; 200 while the process lives."""
        if digests and own not in digests:
            return _json(NotReady(MISDIRECTED, os.getpid()), HTTPStatus.SERVICE_UNAVAILABLE)
        status = "ok" if settings.bundle_dir else NO_RELEASE
        return _json(
            Health(settings.stage, status, settings.model, settings.version, settings.bundle_digest), HTTPStatus.OK
        )

    ready_answers: dict[int | str, dict[str, object]] = {
        200: answer(Ready, "Requests are taken"),
        503: answer(NotReady, "Not ready, with the reason"),
    }

    @router.get("/ready", operation_id="ready", responses=ready_answers)
    async def ready(digests: Digests = None) -> Response:
        """Answer 200 with digest, version and pid when requests are taken, else 503 with the reason."""
        reason = MISDIRECTED if digests and own not in digests else readiness.reason
        if reason:
            return _json(NotReady(reason, os.getpid()), HTTPStatus.SERVICE_UNAVAILABLE)
        confirmed = Ready(settings.bundle_digest, settings.version, os.getpid(), readiness.restarts)
        return _json(confirmed, HTTPStatus.OK)

    counted = {"description": "Prometheus' text form", "content": {_TEXT: {"schema": {"type": "string"}}}}

    @router.get("/metrics", operation_id="metrics", responses={200: counted})
    async def prometheus() -> Response:
        """Return counts and latencies as Prometheus text."""
        return Response(metrics.render(), media_type=_TEXT)

    @router.get(RUNTIME_PATH, include_in_schema=False)
    async def runtime() -> Response:
        """Say what the replica runs with, to who releases; the edge leads nobody here."""
        return _json(describe_runtime(), HTTPStatus.OK)

    return router


def _json(body: msgspec.Struct, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
