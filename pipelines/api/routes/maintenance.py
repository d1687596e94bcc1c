"""/maintenance: holding releases back while the installation itself is changed."""

from typing import Literal

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Person, Reading, RequestBody, State, now
from pipelines.api.responses import Asked, ModelName, PersonName, Refusal, ResponseBody, Time, refusals
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Maintenance
from pipelines.ports import Records

router = guarded_router("maintenance")


class MaintenanceRequest(RequestBody):
    """Asks that nothing be released while the installation itself is changed."""

    verb: Literal["down", "up"] = Field(description="What changes it.")


class MaintenanceRecord(ResponseBody):
    """A change of the installation itself: while it is `running`, nothing is released."""

    id: str
    model: ModelName
    verb: str = Field(description="What changes it: `up` or `down`.")
    requested_by: PersonName
    created_at: Time
    state: RunState
    held_at: Time | None = Field(description="From when on it holds the leases of all environments.")
    end_asked_at: Time | None = Field(description="When the leases were asked back.")
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None


class MaintenanceShown(MaintenanceRecord):
    """Maintenance, and what it waits for."""

    steps: list[Step]


@router.post("", status_code=202, responses=refusals(403))
def ask_maintenance(body: MaintenanceRequest, state: State, person: Person) -> Asked:
    """Hold the leases of all environments while the installation is changed; a former holder is ended."""
    model = body.model_of(state)
    asked = commands.request_maintenance(state.records, person=person, model=model, verb=body.verb, now=now())
    return Asked(id=asked.id)


@router.post("/{id}/end", status_code=202, responses=refusals(403))
def end_maintenance(id: str, body: RequestBody, state: State, person: Person) -> Asked:
    """Give the leases of maintenance back."""
    body.model_of(state)
    return Asked(id=commands.end_maintenance(state.records, person=person, id=id, now=now()).id)


@router.get("/{id}")
def show_maintenance(id: str, state: Reading) -> MaintenanceShown:
    """Return maintenance, and what it waits for."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(MaintenanceShown))
def follow_maintenance(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream maintenance and what it waits for as server-sent events until it has ended."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def _shown(records: Records, id: str) -> MaintenanceShown:
    return shown_work(MaintenanceShown, records.get(Maintenance, id), records)
