"""/evalsets: the evaluation sets of a model, and adding one."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Model, Name, Person, Reading, RequestBody, State, now
from pipelines.api.responses import Asked, Digest, ModelName, PersonName, Refusal, ResponseBody, Time, Version, refusals
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.policy import SetName
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet
from pipelines.governance.evalsets import ListedSet, list_sets
from pipelines.ports import Records

router = guarded_router("evalsets")

RunId = Annotated[str, Field(description="The MLflow run that has logged the file, as `slipway/evaluation.parquet`.")]


class SetRequest(RequestBody):
    """Asks for rows that a run has logged to become an evaluation set of the model."""

    name: SetName = Field(description="What people call it.")
    digest: Digest = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    run_id: RunId = Field(pattern=r"^[0-9a-f]{32}$")


class AskedSet(Asked):
    """A set that was written down; the executor fetches it, has it read, and keeps it."""

    repeated: bool = Field(description="Whether exactly these bytes had been added before: then nothing changes.")


class Addition(ResponseBody):
    """How a person has added a set."""

    name: str
    rows: int
    run_id: RunId
    person: PersonName
    at: Time


class EvaluationSetShown(ResponseBody):
    """An evaluation set of a model."""

    number: int = Field(description="Which of the model's sets it is, 1 the first.")
    digest: Digest
    version: Version | None = Field(description="The version that brought it; null where none has.")
    added: Addition | None = Field(description="How it was added; null for one that versions alone have brought.")
    named: tuple[str, ...] = Field(description="Its names under `evaluation.sets` of the policy in force.")
    in_force: bool = Field(
        description="Whether it judges: the one that the policy names or, where that is `newest`, production's."
    )
    judged: tuple[str, ...] = Field(
        description="Evaluations, of the last thousand, whose report names it; the oldest first."
    )


class EvaluationSets(ResponseBody):
    """The evaluation sets of a model, oldest first."""

    model: ModelName
    evalsets: list[EvaluationSetShown]


class AddedSetShown(ResponseBody):
    """A set that a person adds, with its steps so far."""

    id: str
    model: ModelName
    name: str
    digest: Digest
    run_id: RunId
    requested_by: PersonName
    created_at: Time
    state: RunState
    number: int | None = Field(description="Which of the model's sets it is, once it is added.")
    rows: int | None = Field(description="How many rows it has, once they were read.")
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None
    steps: list[Step]


@router.get("")
def show_evaluation_sets(state: Reading, model: Model) -> EvaluationSets:
    """List the evaluation sets that versions have brought, or people have added, oldest first."""
    return EvaluationSets(model=model, evalsets=[_listed(each) for each in list_sets(state.records, model)])


@router.post("", status_code=202, responses=refusals(409))
def add(body: SetRequest, state: State, person: Person) -> AskedSet:
    """Add an evaluation set that a run has logged; the same bytes twice are one set."""
    asked, repeated = commands.add_evaluation_set(
        state.records,
        person=person,
        model=body.model_of(state),
        name=body.name,
        digest=body.digest,
        run_id=body.run_id,
        now=now(),
    )
    return AskedSet(id=asked.id, repeated=repeated)


@router.get("/{id}")
def show_added_set(id: Annotated[Name, Path()], state: Reading) -> AddedSetShown:
    """Return one set that a person adds, by the id of its adding."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(AddedSetShown))
def follow_added_set(id: Annotated[Name, Path()], request: Request, state: Reading) -> StreamingResponse:
    """Stream how a set is added as server-sent events until it has ended."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def _listed(found: ListedSet) -> EvaluationSetShown:
    added = found.added
    how = None
    if added:
        how = Addition(
            name=added.name,
            rows=added.rows or 0,
            run_id=added.run_id,
            person=added.requested_by,
            at=added.ended_at or added.created_at,
        )
    return EvaluationSetShown.model_validate({**vars(found), "added": how})


def _shown(records: Records, id: str) -> AddedSetShown:
    return shown_work(AddedSetShown, records.get(AddedSet, id), records)
