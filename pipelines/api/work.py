"""How the routes show a piece of work: with its steps so far, once, or as events each time that it has changed."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from pipelines.api.feed import EventFeed
from pipelines.api.requests import now
from pipelines.api.responses import ResponseBody, Time, ascii_json
from pipelines.api.state import ApiState
from pipelines.domain.promotion import RunState
from pipelines.domain.records import LeaderLease
from pipelines.domain.work import Work
from pipelines.errors import DatabaseUnavailable
from pipelines.governance.progress import progress_of
from pipelines.ports import Records
from pipelines.releases.leader import silent_s

# So long a stream is silent at most.
SIGN_S = 5.0


class Step(ResponseBody):
    """One line of what a piece of work is doing."""

    id: str
    subject: str = Field(description="Id of the work.")
    step: str = Field(description="Name of the step.")
    message: str = Field(description="What is known of it; may be empty.")
    at: Time


class ExecutorSign(ResponseBody):
    """The executor's last sign of life."""

    heartbeat_at: Time | None = Field(description="Null when there has never been one.")
    age_s: float | None = Field(
        description="The seconds since, by a clock that no step of the clock on the wall moves; null with the other."
    )


class Shown(Protocol):
    """What a stream sends."""

    def model_dump_json(self, *, ensure_ascii: bool, exclude: Mapping[str, Any]) -> str:
        """Return it as JSON, without what is excluded."""


class WorkShown(Shown, Protocol):
    """A piece of work in the form of its route, with its steps so far."""

    @property
    def state(self) -> RunState:
        """How far it is."""


S = TypeVar("S", bound=Shown)
W = TypeVar("W", bound=ResponseBody)


def shown_work(
    kind: type[W],
    record: Work,
    records: Records,
    **more: object,
) -> W:
    """Return a record as a `kind`, with its steps and what else belongs to it; what is nobody's business stays out."""
    steps = shown_steps(records, record.id)
    told = {name: value for name, value in vars(record).items() if name in kind.model_fields}
    return kind.model_validate({**told, "steps": steps, **more})


def shown_steps(records: Records, subject: str, *, after: int = 0) -> list[Step]:
    """Return what was told of a piece of work after an event, a line a step."""
    return [Step.model_validate(line) for line in progress_of(records, subject, after=after)]


def last_sign(records: Records) -> ExecutorSign:
    """Return when the executor last showed itself, and how long ago that is."""
    for leader in records.find(LeaderLease):
        return ExecutorSign(heartbeat_at=leader.heartbeat_at, age_s=round(silent_s(leader, now()), 3))
    return ExecutorSign(heartbeat_at=None, age_s=None)


def events_of(kind: type[ResponseBody], data: str = "the work as `{}`; the last one is its end") -> dict[str, Any]:
    """Describe a stream of `kind`, for a route's decorator; `data` says what each event has."""
    text = (
        f"Server-sent events: the data of each is {data.format(kind.__name__)}. "
        "Events named `executor` in between are each an `ExecutorSign`."
    )
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    responses = {200: {"description": text, "content": content}}
    return {"response_class": StreamingResponse, "responses": responses}


def follow_work(request: Request, state: ApiState, read: Callable[[], WorkShown]) -> StreamingResponse:
    """Stream a piece of work until it has ended; what `read` refuses at first is a refusal, not a stream."""
    return follow(request, state, read, is_last=lambda work: work.state.final, look_s=SIGN_S)


def follow(
    request: Request,
    state: ApiState,
    read: Callable[[], S],
    *,
    is_last: Callable[[S], bool],
    look_s: float,
    passing: Mapping[str, Any] = MappingProxyType({}),
) -> StreamingResponse:
    """Stream what `read` returns, each time that more than what is `passing` has changed, up to the one that `is_last`.

    It is read when events were committed, and every `look_s` besides. Who comes back with the id of the last state
    that was sent gets the next one. While nothing changes, the last sign of the executor is sent from time to time.
    """
    first = read()

    async def events() -> AsyncIterator[str]:
        shown, sent = first, request.headers.get("last-event-id")
        said_at = time.monotonic()
        with state.feed.joined() as wake:
            while True:
                lasting = shown.model_dump_json(ensure_ascii=True, exclude=passing)
                id = hashlib.sha256(lasting.encode()).hexdigest()[:16]
                if id != sent:
                    text = ascii_json(shown.model_dump_json(ensure_ascii=True, exclude={}))
                    yield f"id: {id}\ndata: {text}\n\n"
                    sent, said_at = id, time.monotonic()
                if is_last(shown) or state.feed.ended:
                    return
                try:
                    await wake.wait(min(look_s, said_at + SIGN_S - time.monotonic()))
                    if time.monotonic() >= said_at + SIGN_S:
                        yield f"event: executor\ndata: {await asyncio.to_thread(_sign, state.records)}\n\n"
                        said_at = time.monotonic()
                    shown = await asyncio.to_thread(read)
                except DatabaseUnavailable:
                    # Whoever follows comes back, and is told the same until it answers.
                    return

    return _Stream(events(), state.feed, request.state.person)


class _Stream(StreamingResponse):
    """Events for one person, counted from the first to the last byte, whether or not the person stays."""

    def __init__(self, events: AsyncIterator[str], feed: EventFeed, person: str) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._feed = feed
        self._person = person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or raise TooManyStreams before the first."""
        with self._feed.admitted(self._person):
            await super().__call__(scope, receive, send)


def _sign(records: Records) -> str:
    return last_sign(records).model_dump_json()
