"""A person's yes or no to a promotion that waits: only to evidence that still holds, and never by the asker."""

import dataclasses
from typing import Any

from pipelines.domain.events import EventKind
from pipelines.domain.names import checked_version
from pipelines.domain.promotion import Evidence, RunState
from pipelines.domain.records import Approval, Evaluation, Promotion
from pipelines.errors import ApprovalExpired, ApprovalVoid, NotAllowed, Rejected, SlipwayError, UsageError
from pipelines.governance import work
from pipelines.governance.standing import judged_by, policy_in_force
from pipelines.ports import Records, Transaction


def waiting_promotion(records: Records, model: str, version: str) -> Promotion:
    """Return the promotion of a version that waits for people; raise UsageError when none does."""
    checked_version(version)
    found = records.find(Promotion, model=model, version=version)
    for promotion in found:
        if promotion.state is RunState.WAITING:
            return promotion
    for promotion in found:
        if promotion.state in (RunState.REQUESTED, RunState.RUNNING):
            raise UsageError(
                f"{promotion.id} of version {version} is still being measured",
                next='decide once it waits: see "make status"',
            )
        if promotion.state is RunState.APPROVED:
            raise UsageError(f"{promotion.id} of version {version} is approved already", next='see "make status"')
    raise UsageError(
        f"no promotion of version {version} waits for approval", next=f'ask for one: "make promote VERSION={version}"'
    )


def decide(
    records: Records, *, person: str, promotion_id: str, approved: bool, reason: str, evidence: Evidence, now: str
) -> Approval:
    """Record a person's yes or no to exactly `evidence`.

    Raises NotAllowed (audited) for the requester's own yes and for a second one, ApprovalVoid when the
    evidence seen is not the one that would be released.
    """
    refusal: SlipwayError | None = None
    with records.write() as transaction:
        promotion = transaction.get(Promotion, promotion_id)
        approval = Approval(
            transaction.new_id(Approval), promotion_id, person, approved, reason, dataclasses.asdict(evidence), now
        )
        refusal = _decision_refusal(transaction, promotion, approval, evidence)
        if refusal is None:
            transaction.add(approval)
            told = {"person": person, "approved": approved, "reason": reason}
            transaction.emit(EventKind.DECISION_MADE, subject=promotion_id, model=promotion.model, detail=told)
            _apply_decision(transaction, promotion, approval)
        verb = "approve" if approved else "reject"
        detail: dict[str, Any] = {"promotion": promotion_id, "reason": reason[:500], "report": evidence.report_digest}
        report = transaction.get(Evaluation, promotion.evaluation_id).report or {}
        if breaking := report.get("breaking"):
            detail["breaking"] = breaking["reason"][:500]
        if refusal:
            detail["refused"] = refusal.message
        transaction.audit(person, f"promotion.{verb}", "outcome", subject=promotion_id, detail=detail)
    if refusal:
        raise refusal
    return approval


def _decision_refusal(
    transaction: Transaction, promotion: Promotion, approval: Approval, evidence: Evidence
) -> SlipwayError | None:
    person, approved = approval.person, approval.approved
    again = f'"make promote VERSION={promotion.version}"'
    if promotion.state is not RunState.WAITING:
        return UsageError(f"promotion {promotion.id} is {promotion.state}", next=f"ask again: {again}")
    if promotion.expires_at and promotion.expires_at < approval.at:
        return ApprovalExpired(f"promotion {promotion.id} has expired", next=f"ask again: {again}")
    if approved and person == promotion.requested_by:
        return NotAllowed(
            f"{person} asked for this promotion and can't approve it",
            next=f"another person approves: make approve VERSION={promotion.version} AS=name",
        )
    if any(given.person == person for given in transaction.find(Approval, promotion_id=promotion.id)):
        return NotAllowed(f"{person} has decided on {promotion.id} already", next="another person decides")
    evaluation = transaction.get(Evaluation, promotion.evaluation_id)
    if approved and (evidence.version, evidence.report_digest) != (promotion.version, evaluation.report_digest):
        return ApprovalVoid("the evidence seen is not this promotion's", next="read the report again, then approve")
    if approved and (evidence.policy_digest, evidence.champion_release) != judged_by(evaluation):
        reason = "the report was made under another policy or against another champion than today's"
        return ApprovalVoid(reason, next=f"let it be rejected, then evaluate again: {again}")
    return None


def _apply_decision(transaction: Transaction, promotion: Promotion, approval: Approval) -> None:
    if not approval.approved:
        no = Rejected(f"rejected by {approval.person}: {approval.reason}")
        work.stop(transaction, promotion, no, at=approval.at)
        return
    given = [a for a in transaction.find(Approval, promotion_id=promotion.id) if a.approved]
    if len(given) >= policy_in_force(transaction, promotion.model).approvals.count:
        work.move(transaction, promotion, RunState.APPROVED)
