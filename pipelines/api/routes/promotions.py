"""/promotions: asking for production, and how far that is."""

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import LISTED, Before, Model, Person, Reading, State, VersionRequest, now
from pipelines.api.responses import Asked, ModelName, PersonName, Refusal, ResponseBody, Time, Version, refusals
from pipelines.api.routes.approvals import ApprovalShown
from pipelines.api.routes.evaluations import EvaluationShown, shown_evaluation
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Approval, Evaluation, Promotion
from pipelines.domain.release import Environment
from pipelines.governance.standing import changed_since
from pipelines.ports import Records

router = guarded_router("promotions")


class AskedPromotion(Asked):
    """A promotion that was written down."""

    promotion_id: str = Field(description="The same id.")
    version: Version


class PromotionRecord(ResponseBody):
    """A request for production: it waits for its evaluation, then for people, then is released."""

    id: str
    model: ModelName
    version: Version
    environment: Environment
    requested_by: PersonName
    created_at: Time
    evaluation_id: str
    state: RunState
    override_gates: list[str] = Field(description="Gates that may be passed over.")
    override_reason: str | None
    measured_before: bool = Field(description="Whether the evaluation was there before this was asked for.")
    expires_at: Time | None = Field(description="Until when people may say yes; null while it is measured.")
    release_id: str | None = Field(description="The release that came of it.")
    archived: Version | None = Field(description="The version that served before.")
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None


class PromotionShown(PromotionRecord):
    """A promotion with what it rests on."""

    steps: list[Step] = Field(description="Steps so far, those of its evaluation first unless `measured_before`.")
    evaluation: EvaluationShown
    approvals: list[ApprovalShown]
    changed: list[str] = Field(
        description="What was put in force since the report was made, while this has not ended: an evaluation set, the"
        " gates or the policy."
    )


class Promotions(ResponseBody):
    """Promotions, oldest first."""

    promotions: list[PromotionRecord]
    more: bool = Field(description="Whether there are older ones: ask again with `before`.")


@router.post("", status_code=202, responses=refusals(404))
def ask_promotion(body: VersionRequest, state: State, person: Person) -> AskedPromotion:
    """Ask for production; the promotion then waits for its evaluation and for people."""
    model, override = body.model_of(state), body.override()
    version = state.versions.resolve(model, body.version)
    asked = commands.request_promotion(
        state.records, person=person, model=model, version=version, override=override, now=now()
    )
    return AskedPromotion(id=asked.id, promotion_id=asked.id, version=version)


@router.get("")
def list_promotions(
    state: Reading,
    model: Model,
    version: Annotated[str | None, Query(description="Of this version only.")] = None,
    before: Before = None,
) -> Promotions:
    """List the last promotions, oldest first, up to a thousand, of one version or of all."""
    equals: dict[str, object] = {"version": version} if version else {}
    found, more = state.records.newest(Promotion, LISTED, before=before, model=model, **equals)
    return Promotions(promotions=[PromotionRecord.model_validate(promotion) for promotion in found], more=more)


@router.get("/{id}")
def show_promotion(id: str, state: Reading) -> PromotionShown:
    """Return a promotion, the steps of it and of its evaluation, its evidence and its decisions."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(PromotionShown))
def follow_promotion(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream a promotion's state and steps as server-sent events until it has ended."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def _shown(records: Records, id: str) -> PromotionShown:
    promotion = records.get(Promotion, id)
    evaluation = shown_evaluation(records, promotion.evaluation_id)
    approvals = [ApprovalShown.model_validate(given) for given in records.find(Approval, promotion_id=id)]
    changed = [] if promotion.state.final else changed_since(records, records.get(Evaluation, evaluation.id))
    more = {"evaluation": evaluation, "approvals": approvals, "changed": list(changed)}
    shown = shown_work(PromotionShown, promotion, records, **more)
    # An evaluation that was there before is evidence, not something that happens now.
    before = [] if promotion.measured_before else evaluation.steps
    return shown.model_copy(update={"steps": before + shown.steps})
