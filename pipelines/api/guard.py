"""Makes the routers of the API: nothing of a request is looked at before its sender is known, least of all its body."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from pipelines.api.auth import person_of
from pipelines.api.responses import refusals

PREFIX = "/api/v1"
# Only for the description, where it makes a field for the token: the route below is what keeps people out.
_DESCRIBED = Security(HTTPBearer(auto_error=False, description="A person's token of tokens.json."))


class _Guarded(APIRoute):
    """A route for people with a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            tokens = request.app.state.slipway.tokens
            request.state.person = person_of(request.headers.get("authorization"), tokens)
            return await handle(request)

        return guarded


def guarded_router(noun: str) -> APIRouter:
    """Return the router of the routes below /api/v1/`noun`."""
    return APIRouter(
        prefix=f"{PREFIX}/{noun}",
        tags=[noun],
        route_class=_Guarded,
        dependencies=[_DESCRIBED],
        responses=refusals(400, 401, 413, 422, 503),
    )
