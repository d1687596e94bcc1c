"""/models: which models the installation has, adding one, and removing one."""

from typing import Annotated

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Name, Person, Reading, RequestBody, State, now
from pipelines.api.responses import Asked, ModelName, PersonName, ResponseBody, Time, Version, refusals
from pipelines.api.state import ApiState
from pipelines.api.work import Step, events_of, follow, shown_steps
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import FurtherModel, ModelState, ReleaseRecord
from pipelines.errors import UsageError
from pipelines.governance.models import check_known, known_models, removal

# What a removal does is told by events; it is looked at besides so often.
_LOOK_S = 5.0

router = guarded_router("models")


class ModelRequest(RequestBody):
    """Asks for a model to be looked after beside the default one."""

    model: Name = Field(description="The registered model, as its model.yaml names it.")


class ModelShown(ResponseBody):
    """A model of the installation, and what it serves."""

    name: ModelName
    default: bool = Field(description="Whether it is the one that requests are about which name none.")
    state: Annotated[ModelState, Field(strict=False)]
    added_by: PersonName | None = Field(description="Null for the default model.")
    added_at: Time | None
    archived_at: Time | None = Field(description="Since when nothing of it serves any more.")
    serving: dict[str, Version] = Field(description="By environment; none where nothing was released.")
    steps: list[Step] = Field(description="What its last removal has done so far.")


class Models(ResponseBody):
    """The models of the installation, the default one first; those that were removed among them."""

    models: list[ModelShown]


@router.post("", status_code=201, responses=refusals(409))
def add_model(body: ModelRequest, state: State, person: Person) -> ModelShown:
    """Look after a model beside the default one; one that was removed is taken up again."""
    commands.add_model(state.records, person=person, model=body.model, default=state.model, now=now())
    return _shown(state, body.model)


@router.get("")
def list_models(state: Reading) -> Models:
    """List the models."""
    return Models(models=[_shown(state, name) for name in known_models(state.records, state.model)])


@router.get("/{name}")
def show_model(name: str, state: Reading) -> ModelShown:
    """Return a model, and what its removal has done so far."""
    return _shown(state, name)


@router.post("/{name}/removal", status_code=202, responses=refusals(409))
def remove_model(name: str, body: RequestBody, state: State, person: Person) -> Asked:
    """Have nothing of a model serve any more; its history stays."""
    if body.model not in (None, name):
        raise UsageError("the path names another model than the body", next="leave the model out of the body")
    return Asked(id=commands.remove_model(state.records, person=person, model=name, default=state.model).id)


@router.get("/{name}/events", **events_of(ModelShown))
def follow_model(name: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream a model as server-sent events until it is not being removed."""
    return follow(
        request,
        state,
        lambda: _shown(state, name),
        is_last=lambda shown: shown.state is not ModelState.REMOVING,
        look_s=_LOOK_S,
    )


def _shown(state: ApiState, name: str) -> ModelShown:
    records = state.records
    check_known(records, state.model, name)
    further = next(iter(records.find(FurtherModel, id=name)), None)
    asked = records.events(subject=removal(name), kinds=[EventKind.MODEL_REMOVAL_ASKED])
    serving = records.find(ReleaseRecord, model=name, state=ReleaseState.SERVING)
    return ModelShown(
        name=name,
        default=name == state.model,
        state=further.state if further else ModelState.SERVED,
        added_by=further.added_by if further else None,
        added_at=further.added_at if further else None,
        archived_at=further.archived_at if further else None,
        serving={str(release.environment): release.version for release in serving},
        steps=shown_steps(records, removal(name), after=asked[-1].seq) if asked else [],
    )
