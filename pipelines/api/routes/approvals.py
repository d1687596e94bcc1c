"""/approvals: a person's yes or no to a waiting promotion."""

import dataclasses
from typing import Annotated

from pydantic import Field

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Person, RequestBody, State, Text, now
from pipelines.api.responses import Digest, ModelName, PersonName, ResponseBody, Time, Version, refusals
from pipelines.domain.release import Environment
from pipelines.errors import UsageError
from pipelines.governance.standing import evidence_of

router = guarded_router("approvals")


class DecisionRequest(RequestBody):
    """A person's yes or no to the promotion of a version, bound to the report that was read."""

    version: Text = Field(description="Of which version the promotion waits.")
    approved: bool
    report_digest: Text | None = Field(None, description="The report that was read; a yes has to name it.")
    reason: Text = Field("", description="Why.")


class EvidenceShown(ResponseBody):
    """Exactly what a person says yes to; when one of these changes, the yes is void."""

    model: ModelName
    version: Version
    environment: Annotated[Environment, Field(strict=False)]
    bundle_digest: str = Field(description="Digest of what would be served.")
    report_digest: str = Field(description="Digest of the report; empty before there is one.")
    policy_digest: Digest
    champion_release: str | None = Field(description="The release that would be replaced.")


class Decided(ResponseBody):
    """A decision as it was written down."""

    id: str
    person: PersonName
    promotion_id: str
    evidence: EvidenceShown


class ApprovalShown(ResponseBody):
    """A person's yes or no to one evidence."""

    id: str
    promotion_id: str
    person: PersonName
    approved: bool
    reason: str
    evidence: EvidenceShown
    at: Time


@router.post("", status_code=201, responses=refusals(403, 409))
def decide(body: DecisionRequest, state: State, person: Person) -> Decided:
    """Approve or reject the waiting promotion of a version."""
    promotion = commands.waiting_promotion(state.records, body.model_of(state), body.version)
    if body.approved and not body.report_digest:
        raise UsageError(
            "a yes names the report that was read, by its digest",
            next=f"read /api/v1/evaluations/{promotion.evaluation_id}, and send its report_digest",
        )
    evidence = evidence_of(state.records, promotion)
    if body.report_digest:
        evidence = dataclasses.replace(evidence, report_digest=body.report_digest)
    approval = commands.decide(
        state.records,
        person=person,
        promotion_id=promotion.id,
        approved=body.approved,
        reason=body.reason,
        evidence=evidence,
        now=now(),
    )
    return Decided(
        id=approval.id,
        person=person,
        promotion_id=promotion.id,
        evidence=EvidenceShown.model_validate(approval.evidence),
    )
