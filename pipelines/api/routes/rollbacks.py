"""/rollbacks: going back to the previous good release."""

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Person, Reading, RequestBody, State, now
from pipelines.api.responses import Asked, ModelName, PersonName, Refusal, ResponseBody, Time, Version
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Rollback
from pipelines.domain.release import Environment
from pipelines.ports import Records

router = guarded_router("rollbacks")


class RollbackRequest(RequestBody):
    """Asks for the previous good release."""

    environment: Environment = Environment.PRODUCTION


class RollbackRecord(ResponseBody):
    """A request to go back from one release to the good one before it."""

    id: str
    model: ModelName
    environment: Environment
    requested_by: PersonName
    created_at: Time
    replaces: str | None = Field(description="The release that served when it was asked for.")
    state: RunState
    release_id: str | None = Field(description="The release that came of it.")
    version: Version | None = Field(description="The version that serves again.")
    replaced: Version | None = Field(description="The version that served before.")
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None
    during: str | None = Field(description="The release that was half-done when it was asked for.")


class RollbackShown(RollbackRecord):
    """A rollback with its steps so far."""

    steps: list[Step]


@router.post("", status_code=202)
def ask_rollback(body: RollbackRequest, state: State, person: Person) -> Asked:
    """Go back to the previous good release of an environment."""
    asked = commands.request_rollback(
        state.records, person=person, model=body.model_of(state), environment=body.environment, now=now()
    )
    return Asked(id=asked.id)


@router.get("/{id}")
def show_rollback(id: str, state: Reading) -> RollbackShown:
    """Return a rollback and its steps so far."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(RollbackShown))
def follow_rollback(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream a rollback's state and steps as server-sent events until it has ended."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def _shown(records: Records, id: str) -> RollbackShown:
    return shown_work(RollbackShown, records.get(Rollback, id), records)
