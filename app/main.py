"""Makes the service; a replica that cannot prove its release never comes to accept a request."""

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from app.errors import BundleError, Busy, RequestError, SettingsError, error_body, lacks_memory
from app.logs import EventLog, Level
from app.metrics import Metrics
from app.model.bundle import read_bundle
from app.model.description import Task
from app.model.sampling import CLASS_BYTES, SampledRequests
from app.model.scoring import Scorer, load
from app.openapi import REQUEST_ID, DescribedApi
from app.protocols.budget import Budget
from app.protocols.native import BATCH_PATH, ROW_PATH, Predictor, prediction_router, prediction_schemas
from app.protocols.reply import Reply, Send, in_pieces, refused, send_reply
from app.protocols.request import ClientLeft, Receive, RequestHead
from app.protocols.sampled import SampleRoute
from app.settings import Settings
from app.state import DRAINING, NO_RELEASE, STATE_ANSWERS, Readiness, state_router

Scope = MutableMapping[str, Any]
Predict = Callable[[RequestHead, Receive], Awaitable[Reply]]


class Service:
    """The ASGI application: predictions straight from the model, everything else through FastAPI.

    The framework would take more of a replica's core than validation and scoring together.
    """

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self.log = log
        scorer = _released(settings)
        self._readiness = Readiness(None if scorer else NO_RELEASE)
        self._budget = Budget()
        sampled = _sampled(scorer, settings) if scorer else None
        predictor = Predictor(scorer, settings, self._budget, sampled=sampled)
        self._samples = SampleRoute(sampled, settings, self._budget)
        self._predictors = {ROW_PATH: predictor.row, BATCH_PATH: predictor.batch}
        self._metrics = Metrics(
            stage=settings.stage,
            model=settings.model or "",
            version=settings.version or "",
            digest=settings.bundle_digest or "",
        )
        self._log_every = settings.access_log_every
        self._answered = 0
        described = DescribedApi(
            STATE_ANSWERS,
            prediction_schemas(scorer),
            title=settings.model or "Slipway",
            version=settings.version or "none",
        )
        self.openapi = described.openapi
        self._api = described.app
        self._api.include_router(state_router(settings, self._readiness, self._metrics))
        self._api.include_router(prediction_router(scorer))
        self._api.add_exception_handler(HTTPException, _refused)
        self._api.add_exception_handler(Exception, _failed)

    def drain(self) -> None:
        """Answer /ready with 503 from now on; requests are still answered."""
        self._readiness.reason = DRAINING

    def note_restarts(self, restarts: int) -> None:
        """Tell in /ready how many workers this one has replaced."""
        self._readiness.restarts = restarts

    def count_refusal(self, status: int) -> None:
        """Count what was refused before it came to be a request."""
        self._metrics.observe("", status, 0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, count it, and log it when its turn has come or it failed."""
        started_s = time.perf_counter()
        predict = self._predictors.get(scope["path"]) if scope["method"] == "POST" else None
        if predict is None and self._samples.is_asked(scope):
            predict = self._samples.answer
        try:
            if predict:
                status = await self._predict(predict, scope, receive, send)
            else:
                status = await self._through_framework(scope, receive, send)
        except ClientLeft:
            return
        seconds = time.perf_counter() - started_s
        self._metrics.observe(scope["path"], status, seconds)
        self._answered += 1
        # Who is told to come again, or that nothing is ready, has got an answer: that is no failure.
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE
        if failed or self._answered % self._log_every == 0:
            self._log_access(scope, status, seconds)

    async def _predict(self, predict: Predict, scope: Scope, receive: Receive, send: Send) -> int:
        head = RequestHead(scope["headers"])
        try:
            reply = await self._reply(predict, head, scope, receive)
            await send_reply(reply, send)
        finally:
            self._budget.release(head)
        return reply.status

    async def _reply(self, predict: Predict, head: RequestHead, scope: Scope, receive: Receive) -> Reply:
        try:
            return await predict(head, receive)
        except ClientLeft:
            raise
        except Exception as error:  # the entrypoint: whatever it is, the client gets an answer
            self._log_failure(scope, error)
            return refused(_NO_MEMORY if lacks_memory(error) else _INTERNAL, head.request_id)

    async def _through_framework(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def noting_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            # HEAD is answered as GET is; the server itself leaves the body out.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._api({**scope, "method": method}, receive, in_pieces(noting_send))
        except ClientLeft:
            raise
        except Exception as error:  # the entrypoint: FastAPI has answered, and raises again for this line
            self._log_failure(scope, error)
        return status

    def _log_access(self, scope: Scope, status: int, seconds: float) -> None:
        level = Level.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Level.INFO
        fields = {"method": scope["method"], "path": scope["path"], "status": int(status)}
        self.log.write(level, "request", **fields, latency_ms=round(seconds * 1000, 3))

    def _log_failure(self, scope: Scope, error: Exception) -> None:
        self.log.write(Level.ERROR, "request_failed", path=scope["path"], error=repr(error))


def create_app() -> Service:
    """Return the service that the environment describes; raise StartupError when its release is refused."""
    settings = Settings.from_environ(os.environ)
    context = settings.model_dump(include={"stage", "model", "version"}, exclude_none=True)
    return Service(settings, EventLog(**context, digest=settings.bundle_digest))


def _released(settings: Settings) -> Scorer | None:
    if settings.bundle_dir is None:
        return None
    if settings.bundle_digest is None:
        raise SettingsError("a bundle directory without its digest")
    bundle = read_bundle(settings.bundle_dir, digest=settings.bundle_digest)
    if bundle.description.model != settings.model:
        raise BundleError(f"the bundle is of {bundle.description.model}, the release of {settings.model}")
    return load(bundle)


def _sampled(scorer: Scorer, settings: Settings) -> SampledRequests:
    names, attributes = scorer.features, scorer.schema.attributes
    answer_bytes = CLASS_BYTES * len(scorer.classes) if scorer.task is Task.MULTICLASS else 0
    return SampledRequests(
        names, attributes, digest=settings.bundle_digest, version=settings.version, answer_bytes=answer_bytes
    )


_INTERNAL = RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the service failed; see its log")
_NO_MEMORY = Busy("this needs more memory than the replica has left")


async def _refused(request: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
    code = status.phrase.lower().replace(" ", "_")
    headers = getattr(error, "headers", None) or {}
    return _error_response(request, RequestError(status, code, status.phrase), headers)


async def _failed(request: Request, _: Exception) -> Response:
    return _error_response(request, _INTERNAL, {})


def _error_response(request: Request, error: RequestError, headers: dict[str, str]) -> Response:
    request_id = RequestHead(request.headers.raw).request_id
    content = error_body(error, request_id)
    return Response(content, error.status, {**headers, REQUEST_ID: request_id}, media_type="application/json")
