"""/lineage: what a version comes of and what came of it, and which versions a hash, a commit or an image led to."""

from typing import Annotated

from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import LISTED, Model, Reading
from pipelines.api.responses import Digest, ModelName, PersonName, ResponseBody, Time, Version
from pipelines.domain.lineage import OriginKind
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Approval, Evaluation, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.verdict import Verdict
from pipelines.governance.lineage import History, Traced, find_lineage

router = guarded_router("lineage")


class OriginShown(ResponseBody):
    """Something that a version comes of, was judged by, or runs from, which its kind says."""

    kind: OriginKind
    value: str


class EvidenceMade(ResponseBody):
    """An evaluation of a version, by the digests of what it was judged by; null is what no report says."""

    evaluation_id: str
    requested_by: PersonName
    state: RunState
    verdict: Annotated[Verdict, Field(strict=False)] | None
    report_digest: Digest | None
    evalset_digest: Digest | None
    evalsets: dict[str, Digest] | None = Field(description="The further sets, by the policy's names.")
    policy_digest: Digest | None
    gates_digest: Digest | None
    ended_at: Time | None


class DecisionMade(ResponseBody):
    """A person's yes or no to a promotion of a version."""

    promotion_id: str
    person: PersonName
    approved: bool
    reason: str
    report_digest: str
    at: Time


class ReleaseMade(ResponseBody):
    """A release of a version; images are null on a target without them, and where they were not recorded."""

    id: str
    environment: Environment
    kind: str = Field(description="What it came of: `staging`, `promotion` or `rollback`.")
    change_id: str = Field(description="Id of the evaluation, promotion or rollback that it came of.")
    state: ReleaseState
    serving_at: Time | None
    ended_at: Time | None
    image: str | None = Field(description="The image that it ran from, as `name@sha256:<hex>`.")
    app_image: str | None = Field(description="The app's image in that one.")


class VersionLineage(ResponseBody):
    """A version and all that led to it."""

    model: ModelName
    version: Version
    bundle_digest: Digest
    pinned_at: Time
    origins: list[OriginShown] = Field(description="What it comes of, was judged by and runs from.")
    is_traced: bool = Field(
        description="Whether what its bundle says of its run, data, commit and dependencies is known; a bundle that was"
        " removed before that was kept has left nothing."
    )


class HistoryShown(ResponseBody):
    """What became of a version, each oldest first."""

    evidence: list[EvidenceMade]
    decisions: list[DecisionMade]
    releases: list[ReleaseMade]


class Lineage(ResponseBody):
    """What was asked about, and the versions that it led to."""

    meant: list[OriginShown] = Field(description="What the hash or commit is; empty where a version was asked about.")
    versions: list[VersionLineage] = Field(
        description="Oldest first; the one that was asked about, or those built from it, judged by it or run from it."
    )
    more: bool = Field(description="Whether there are older ones, which are not listed.")
    history: HistoryShown | None = Field(description="What became of the version that was asked about.")


@router.get("/{of}")
def show_lineage(of: str, state: Reading, model: Model) -> Lineage:
    """Return what a version comes of and what came of it, or which versions a hash, a commit or an image led to.

    Of a hash or a commit its first seven digits are enough, if nothing else begins so. It is looked for in all models.
    """
    found = find_lineage(state.records, of, model=model)
    return Lineage(
        meant=[OriginShown.model_validate(origin) for origin in found.origins],
        versions=[_version(each) for each in found.versions[-LISTED:]],
        more=len(found.versions) > LISTED,
        history=_history(found.history, found.versions[0]) if found.history else None,
    )


def _version(traced: Traced) -> VersionLineage:
    return VersionLineage(
        model=traced.pin.model,
        version=traced.pin.version,
        bundle_digest=traced.pin.bundle_digest,
        pinned_at=traced.pin.pinned_at,
        origins=[OriginShown.model_validate(origin) for origin in traced.origins],
        is_traced=traced.provenance is not None,
    )


def _history(history: History, traced: Traced) -> HistoryShown:
    return HistoryShown(
        evidence=[_evidence(each) for each in history.evaluations],
        decisions=[_decision(each) for each in history.approvals],
        releases=[_release(each, traced) for each in history.releases],
    )


def _evidence(evaluation: Evaluation) -> EvidenceMade:
    report = evaluation.report or {}
    return EvidenceMade(
        evaluation_id=evaluation.id,
        requested_by=evaluation.requested_by,
        state=evaluation.state,
        verdict=Verdict(evaluation.verdict) if evaluation.verdict else None,
        report_digest=evaluation.report_digest,
        ended_at=evaluation.ended_at,
        **{name: report.get(name) for name in ("evalset_digest", "evalsets", "policy_digest", "gates_digest")},
    )


def _decision(approval: Approval) -> DecisionMade:
    told = {name: getattr(approval, name) for name in ("promotion_id", "person", "approved", "reason", "at")}
    return DecisionMade(**told, report_digest=approval.evidence["report_digest"])


def _release(release: ReleaseRecord, traced: Traced) -> ReleaseMade:
    told = {name: getattr(release, name) for name in ReleaseMade.model_fields if hasattr(release, name)}
    ran_from = traced.ran_from.get(release.id)
    return ReleaseMade(
        **told,
        image=ran_from.image if ran_from else None,
        app_image=ran_from.app_image if ran_from else None,
    )
