"""/evaluations: measuring a version, into staging, and ending that before it is done."""

from typing import Annotated

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Person, Reading, RequestBody, State, VersionRequest, now
from pipelines.api.responses import (
    Asked,
    AskedVersion,
    Digest,
    ModelName,
    PersonName,
    Refusal,
    ResponseBody,
    Time,
    Version,
    refusals,
)
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.domain.report import Report
from pipelines.domain.verdict import Verdict
from pipelines.ports import Records

router = guarded_router("evaluations")


class EvaluationRecord(ResponseBody):
    """One measuring of a version, from packaging to its report."""

    id: str
    model: ModelName
    version: Version
    requested_by: PersonName
    created_at: Time
    state: RunState
    override_gates: list[str] = Field(description="Gates that may be passed over.")
    override_reason: str | None
    bundle_digest: Digest | None
    report: Report | None = Field(description="Null until everything is measured.")
    report_digest: Digest | None
    verdict: Annotated[Verdict, Field(strict=False)] | None
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None
    cancel_asked_by: PersonName | None = Field(description="Who has asked for its end.")


class EvaluationShown(EvaluationRecord):
    """An evaluation with its steps so far."""

    steps: list[Step]


@router.post("", status_code=202, responses=refusals(404))
def ask_evaluation(body: VersionRequest, state: State, person: Person) -> AskedVersion:
    """Evaluate a version into staging."""
    model, override = body.model_of(state), body.override()
    version = state.versions.resolve(model, body.version)
    asked = commands.request_evaluation(
        state.records, person=person, model=model, version=version, override=override, now=now()
    )
    return AskedVersion(id=asked.id, version=version)


@router.post("/{id}/cancel", status_code=202)
def cancel_evaluation(id: str, body: RequestBody, state: State, person: Person) -> Asked:
    """End an evaluation before it is done; a promotion that waits for it ends with it."""
    body.model_of(state)
    return Asked(id=commands.cancel_evaluation(state.records, person=person, id=id).id)


@router.get("/{id}")
def show_evaluation(id: str, state: Reading) -> EvaluationShown:
    """Return an evaluation, its report and its steps so far."""
    return shown_evaluation(state.records, id)


@router.get("/{id}/events", **events_of(EvaluationShown))
def follow_evaluation(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream an evaluation's state and steps as server-sent events until it has ended."""
    return follow_work(request, state, lambda: shown_evaluation(state.records, id))


def shown_evaluation(records: Records, id: str) -> EvaluationShown:
    """Return an evaluation as it is shown; raise UsageError when there is none."""
    return shown_work(EvaluationShown, records.get(Evaluation, id), records)
