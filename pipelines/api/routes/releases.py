"""/releases: who served what when."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import LISTED, Before, Model, Reading
from pipelines.api.responses import Digest, ModelName, ResponseBody, Time, Version
from pipelines.api.routes.approvals import EvidenceShown
from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.verdict import Verdict

router = guarded_router("releases")


class OverrideShown(ResponseBody):
    """Gates that were passed over, and why."""

    gates: list[str]
    reason: str


class ProductionEvidence(EvidenceShown):
    """What a release into production rests on."""

    approved_by: list[str] = Field(description="The people who said yes, sorted.")
    override: OverrideShown | None


class StagingEvidence(ResponseBody):
    """What a release into staging rests on."""

    report_digest: Digest | None
    verdict: Annotated[Verdict, Field(strict=False)] | None


class NoEvidence(ResponseBody):
    """Nothing was recorded."""


class ReleaseShown(ResponseBody):
    """A release of an environment, with the evidence that it was released on."""

    id: str
    model: ModelName
    environment: Environment
    version: Version
    bundle_digest: Digest
    kind: str = Field(description="What it came of: `staging`, `promotion` or `rollback`.")
    change_id: str = Field(description="Id of the evaluation, promotion or rollback that it came of.")
    actor: str = Field(description="The person who asked for it.")
    created_at: Time
    state: ReleaseState
    restores: str | None = Field(description="The release that a rollback went back to.")
    evidence: ProductionEvidence | StagingEvidence | NoEvidence
    serving_at: Time | None = Field(description="From when on it served.")
    ended_at: Time | None


class Releases(ResponseBody):
    """Releases, oldest first."""

    releases: list[ReleaseShown]
    more: bool = Field(description="Whether there are older ones: ask again with `before`.")


@router.get("")
def list_releases(
    state: Reading,
    model: Model,
    environment: Annotated[Environment | None, Query(description="Of this environment only.")] = None,
    before: Before = None,
) -> Releases:
    """List who served what when, oldest first, the last thousand releases, overrides included."""
    equals: dict[str, object] = {"environment": environment} if environment else {}
    found, more = state.records.newest(ReleaseRecord, LISTED, before=before, model=model, **equals)
    return Releases(releases=[ReleaseShown.model_validate(release) for release in found], more=more)
