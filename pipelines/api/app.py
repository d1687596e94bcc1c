"""Builds the API: routes behind bearer tokens, and refusals in one form."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from pipelines.api import health
from pipelines.api.door import Door
from pipelines.api.responses import AsciiJson
from pipelines.api.routes import ROUTERS
from pipelines.api.state import ApiState
from pipelines.errors import (
    NotAllowed,
    SlipwayError,
    TooManyRequests,
    TooManyStreams,
    UnknownModel,
    UnknownVersion,
    UsageError,
)

# HTTP status by exit code; a few codes have a status of their own.
_BY_EXIT = {1: 500, 2: 400, 3: 409, 4: 503, 5: 502}
_BY_CODE = {UnknownModel.code: 404, UnknownVersion.code: 404, TooManyRequests.code: 429, TooManyStreams.code: 429}
_RETRY_AFTER = {TooManyRequests.code: {"Retry-After": "1"}, TooManyStreams.code: {"Retry-After": "5"}}


def create_app(state: ApiState) -> FastAPI:
    """Return the ASGI application."""
    app: FastAPI = FastAPIOffline(
        title="Slipway",
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,
        default_response_class=AsciiJson,
    )
    app.state.slipway = state
    app.add_middleware(Door)
    app.include_router(health.router)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(SlipwayError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    unused: Any = None
    return create_app(ApiState(unused, unused, unused, "", {})).openapi()


def status_of(error: SlipwayError, *, authenticated: bool) -> int:
    """Return the HTTP status of a refusal."""
    if isinstance(error, NotAllowed):
        return 403 if authenticated else 401
    return _BY_CODE.get(error.code, _BY_EXIT[error.exit_code])


async def _refused(request: Request, error: Exception) -> AsciiJson:
    if not isinstance(error, SlipwayError):
        raise error
    authenticated = getattr(request.state, "person", None) is not None
    status, headers = status_of(error, authenticated=authenticated), _RETRY_AFTER.get(error.code)
    return AsciiJson({"error": error.as_dict()}, status, headers)


async def _invalid(request: Request, error: Exception) -> AsciiJson:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
    refusal = UsageError(problems[:500], next="see /docs for what the route takes")
    return AsciiJson({"error": refusal.as_dict()}, 422)


async def _http_error(request: Request, error: Exception) -> AsciiJson:
    if not isinstance(error, HTTPException):
        raise error
    refusal = UsageError(str(error.detail), next="see /docs for the routes")
    return AsciiJson({"error": refusal.as_dict()}, error.status_code)
