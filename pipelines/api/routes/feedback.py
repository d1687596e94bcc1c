"""/feedback: labels of requests, by the ids with which they were answered."""

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Name, Person, Reading, RequestBody, State, now
from pipelines.api.responses import ModelName, PersonName, ResponseBody, Time, refusals
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Feedback

router = guarded_router("feedback")
MOST_LABELS = 5000


class LabelGiven(BaseModel):
    """What is true of one row."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    request_id: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="The id with which the request was answered."),
    ]
    row: int = Field(0, ge=0, lt=1_000_000, description="Which row of the request, from 0 on.")
    label: StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=1000)] = Field(
        description="Its class, of the type that the model answers, or its number."
    )


class FeedbackRequest(RequestBody):
    """Labels of rows that a model has answered."""

    labels: list[LabelGiven] = Field(min_length=1, max_length=MOST_LABELS)


class FeedbackTaken(ResponseBody):
    """Labels that were written down; the executor puts them beside the requests."""

    id: str
    labels: int = Field(description="How many they are.")
    repeated: bool = Field(description="Whether the last list that was sent is the same: then nothing is added.")


class FeedbackShown(ResponseBody):
    """Labels that somebody has sent, and whether they are beside the requests by now."""

    id: str
    model: ModelName
    person: PersonName
    labels: int
    state: RunState
    created_at: Time
    ended_at: Time | None


@router.post("", status_code=202, responses=refusals(409))
def give(body: FeedbackRequest, state: State, person: Person) -> FeedbackTaken:
    """Tell what was true of answered rows; the last label of a row counts, and the same list twice running is one."""
    labels = [commands.TrueLabel(each.request_id, each.row, each.label) for each in body.labels]
    feedback, repeated = commands.give_feedback(
        state.records, person=person, model=body.model_of(state), labels=labels, now=now()
    )
    return FeedbackTaken(id=feedback.id, labels=feedback.count, repeated=repeated)


@router.get("/{id}")
def show(id: Annotated[Name, Path()], state: Reading) -> FeedbackShown:
    """Show whether labels are beside the requests."""
    found = state.records.get(Feedback, id)
    return FeedbackShown(
        id=found.id,
        model=found.model,
        person=found.person,
        labels=found.count,
        state=found.state,
        created_at=found.created_at,
        ended_at=found.ended_at,
    )
