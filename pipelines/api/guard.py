"""Makes the routers of the API: nothing of a request is looked at before its sender is known, least of all its body."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from pipelines.api.auth import person_of
from pipelines.api.responses import refusals
from pipelines.errors import TooManyRequests

PREFIX = "/api/v1"
# So many requests of one person about one noun are answered at once, and so many may be under way, about all nouns
# together: a long listing takes tens of megabytes while it is made, and one that waits for the model registry a thread.
AT_ONCE = 4
MOST_OF_A_NOUN = 16
MOST_OF_A_PERSON = 64
# Only for the description, where it makes a field for the token: the route below is what keeps people out.
_DESCRIBED = Security(HTTPBearer(auto_error=False, description="A person's token of tokens.json."))


class Turns:
    """Lets each person have so many requests answered at once, whoever else asks; one event loop only."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], asyncio.Semaphore] = {}
        self._asked: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def taken(self, person: str, noun: str) -> AsyncIterator[None]:
        """Wait for a person's turn, which lasts for the block; raise TooManyRequests where too many wait already."""
        lane = (person, noun)
        self._refuse(person, f"about {noun} ", self._asked[lane], MOST_OF_A_NOUN)
        under_way = sum(count for (who, _), count in self._asked.items() if who == person)
        self._refuse(person, "", under_way, MOST_OF_A_PERSON)
        turn = self._turns.setdefault(lane, asyncio.Semaphore(AT_ONCE))
        self._asked[lane] += 1
        try:
            async with turn:
                yield
        finally:
            self._asked[lane] -= 1

    def _refuse(self, person: str, about: str, under_way: int, most: int) -> None:
        if under_way >= most:
            raise TooManyRequests(
                f"{person} has {under_way} requests {about}under way already", next="try again once some are answered"
            )


class _Guarded(APIRoute):
    """A route for people with a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        noun = self.path.removeprefix(f"{PREFIX}/").partition("/")[0]

        async def guarded(request: Request) -> Response:
            state = request.app.state.slipway
            request.state.person = person_of(request.headers.get("authorization"), state.tokens)
            async with state.turns.taken(request.state.person, noun):
                return await handle(request)

        return guarded


def guarded_router(noun: str) -> APIRouter:
    """Return the router of the routes below /api/v1/`noun`."""
    return APIRouter(
        prefix=f"{PREFIX}/{noun}",
        tags=[noun],
        route_class=_Guarded,
        dependencies=[_DESCRIBED],
        responses=refusals(400, 401, 404, 413, 422, 429, 503),
    )
