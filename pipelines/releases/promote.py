"""Releasing an approved promotion: the lease, the evidence and the approval are checked before anything moves."""

from dataclasses import asdict
from typing import Any

from pipelines.domain.promotion import Evidence, RunState, profile_refusal, report_verdict, void_reasons
from pipelines.domain.records import Approval, Evaluation, Promotion, ReleaseRecord
from pipelines.domain.report import Report
from pipelines.errors import ApprovalVoid, Refused
from pipelines.governance.standing import evidence_of
from pipelines.governance.work import move
from pipelines.ports import Step, Transaction
from pipelines.releases.alias import is_deleted
from pipelines.releases.leased import under_lease
from pipelines.releases.rollout import Change, at_step, put_in_service
from pipelines.releases.services import Services
from pipelines.releases.waiting import read


def release_promotion(services: Services, promotion_id: str, step: Step) -> None:
    """Release an approved promotion into production, or leave what serves untouched and say why."""
    promotion = read(services, Promotion, promotion_id)

    def carry_out() -> None:
        step("K1 evidence read", lambda: at_step(services, "K1", lambda: _checked_report(services, promotion)))
        evidence = step("K2 approval checked", lambda: at_step(services, "K2", lambda: _approved(services, promotion)))
        change = Change(
            promotion_id, "promotion", promotion.model, promotion.environment, promotion.version,
            evidence["bundle_digest"], promotion.requested_by, evidence,
        )  # fmt: skip
        put_in_service(services, change, step, finish=_finish_promotion)

    under_lease(services, promotion, step, carry_out=carry_out)


def _checked_report(services: Services, promotion: Promotion) -> None:
    evaluation = services.records.get(Evaluation, promotion.evaluation_id)
    if evaluation.report is None:
        raise ApprovalVoid("there is no report", next=f'run "make promote VERSION={promotion.version}" again')
    report = Report.read(evaluation.report)
    if not report_verdict(report, promotion.override).goes_on:
        raise ApprovalVoid(f"the report's verdict is {evaluation.verdict}", next="see the report in MLflow")
    _refuse_moved_alias(services, promotion)
    compared = report.champion.release if report.champion else None
    champion = services.serving(promotion.model, promotion.environment)
    if compared != (champion.id if champion else None):
        raise ApprovalVoid(
            f"the report compares with release {compared}, but {champion.id if champion else 'none'} serves now",
            next=f'evaluate again: "make promote VERSION={promotion.version}"',
        )
    refusal = profile_refusal(report, services.policy(promotion.model), promotion.environment)
    if refusal:
        raise ApprovalVoid(refusal, next=f'evaluate again: "make deploy-staging VERSION={promotion.version}"')


def _refuse_moved_alias(services: Services, promotion: Promotion) -> None:
    """Hold a promotion while the alias says something else than the release record."""
    champion = services.serving(promotion.model, promotion.environment)
    aliased = services.registry.aliases(promotion.model).get(promotion.environment)
    if aliased == (champion.version if champion else None):
        return
    serving = f"version {champion.version}" if champion else "nothing"
    back = f"set the alias back in MLflow to {serving}"
    if champion and is_deleted(services.registry.version, promotion.model, champion.version):
        if aliased is None:
            return
        serving, back = f"{serving}, deleted since,", "remove the alias in MLflow"
    raise Refused(
        f"@{promotion.environment} points at version {aliased}, but {serving} is released there",
        next=f"{back}, then promote again",
    )


def _approved(services: Services, promotion: Promotion) -> dict[str, Any]:
    """Return the evidence as recorded with the release; raise ApprovalVoid when it is not covered."""
    now = evidence_of(services.records, promotion)
    given = services.records.find(Approval, promotion_id=promotion.id, approved=True)
    people = {approval.person for approval in given if approval.person != promotion.requested_by}
    for approval in given:
        reasons = void_reasons(Evidence(**approval.evidence), now)
        if reasons:
            raise ApprovalVoid(
                f"the approval of {approval.person} is void: " + "; ".join(reasons),
                next=f'ask again: "make promote VERSION={promotion.version}"',
            )
    needed = services.policy(promotion.model).approvals.count
    if len(people) < needed:
        raise ApprovalVoid(f"{len(people)} of {needed} approvals", next=f"approve VERSION={promotion.version}")
    override = promotion.override
    named = {"gates": sorted(override.gates), "reason": override.reason} if override else None
    return {**asdict(now), "approved_by": sorted(people), "override": named}


def _finish_promotion(
    transaction: Transaction, services: Services, change: Change, served: ReleaseRecord, previous: ReleaseRecord | None
) -> None:
    promotion = transaction.get(Promotion, change.holder)
    archived = previous.version if previous and previous.version != change.version else None
    move(transaction, promotion, RunState.DONE, release_id=served.id, archived=archived, ended_at=services.now())
