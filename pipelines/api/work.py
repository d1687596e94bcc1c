"""How the routes show a piece of work: with its steps so far, once, or as events each time that it has changed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines.api.responses import ResponseBody, Time
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Maintenance, PolicyChange, Progress, Promotion, Rollback
from pipelines.ports import Records

EVENTS_POLL_S = 0.3


class Step(ResponseBody):
    """One line of what a piece of work is doing."""

    id: str
    subject: str = Field(description="Id of the work.")
    step: str = Field(description="Name of the step.")
    message: str = Field(description="What is known of it; may be empty.")
    at: Time


class WorkShown(Protocol):
    """A piece of work in the form of its route, with its steps so far."""

    @property
    def state(self) -> RunState:
        """How far it is."""

    def model_dump_json(self) -> str:
        """Return it as JSON."""


W = TypeVar("W", bound=ResponseBody)


def shown_work(
    kind: type[W],
    record: Evaluation | Promotion | Rollback | PolicyChange | Maintenance,
    records: Records,
    **more: object,
) -> W:
    """Return a record as a `kind`, with its steps and what else belongs to it."""
    steps = [Step.model_validate(line) for line in records.find(Progress, subject=record.id)]
    return kind.model_validate({**vars(record), "steps": steps, **more})


def events_of(kind: type[ResponseBody]) -> dict[str, Any]:
    """Describe a stream of `kind`, for a route's decorator."""
    text = f"Server-sent events: the data of each is the work as `{kind.__name__}`; the last one is its end."
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    return {"response_class": StreamingResponse, "responses": {200: {"description": text, "content": content}}}


def follow_work(read: Callable[[], WorkShown]) -> StreamingResponse:
    """Stream what `read` returns; what it refuses at first is a refusal, not a stream."""
    first = read()

    async def events() -> AsyncIterator[str]:
        shown, sent = first, None
        while True:
            text = shown.model_dump_json()
            if text != sent:
                yield f"data: {text}\n\n"
                sent = text
            if shown.state.final:
                return
            await asyncio.sleep(EVENTS_POLL_S)
            shown = await asyncio.to_thread(read)

    return StreamingResponse(events(), media_type="text/event-stream")
