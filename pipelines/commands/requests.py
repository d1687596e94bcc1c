"""What people may ask for: each request checks the rules, writes an intent and its audit row, no more.

The API calls these; the executor alone carries commands out.
"""

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import Evidence, Override, ReleaseState, RunState
from pipelines.domain.records import (
    Approval,
    Evaluation,
    Maintenance,
    PolicyChange,
    Promotion,
    ReleaseRecord,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.errors import ApprovalExpired, ApprovalVoid, NotAllowed, SlipwayError, UsageError
from pipelines.ports import Records, Transaction


def request_evaluation(
    records: Records, *, person: str, model: str, version: str, override: Override | None, now: str
) -> Evaluation:
    """Ask for an evaluation; one of the same version that is still under way is returned instead."""
    checked_name(model, what="model")
    checked_version(version)
    with records.write() as transaction:
        return _evaluation(transaction, person, model, version, override=override, now=now)


def request_promotion(
    records: Records, *, person: str, model: str, version: str, override: Override | None, now: str
) -> Promotion:
    """Ask for production; a promotion of the same version that still waits is returned instead.

    A report made under the policy in force and against the serving champion is used again; without
    one, an evaluation is asked for first.
    """
    checked_name(model, what="model")
    checked_version(version)
    with records.write() as transaction:
        for waiting in transaction.find(Promotion, model=model, version=version):
            if waiting.state.final:
                continue
            if waiting.override != override:
                raise UsageError(
                    f"{waiting.id} of version {version} waits with another override",
                    next=f'once it waits for people, end it: "make reject VERSION={version} REASON=... AS=name"',
                )
            return waiting
        champion = serving_release(transaction, model, Environment.PRODUCTION)
        if champion and champion.version == version:
            raise UsageError(f"version {version} already serves production", next='see "slipway status"')
        usable = _valid_evaluation(transaction, model, version, override, champion)
        evaluation = usable or _evaluation(transaction, person, model, version, override=override, now=now)
        policy = policy_in_force(transaction)
        promotion = Promotion(
            id=transaction.new_id(Promotion),
            model=model,
            version=version,
            environment=Environment.PRODUCTION,
            requested_by=person,
            created_at=now,
            evaluation_id=evaluation.id,
            state=RunState.WAITING if usable else RunState.REQUESTED,
            measured_before=usable is not None,
            expires_at=expiry(policy, now) if usable else None,
            **_override_fields(override),
        )
        transaction.add(promotion)
        detail = {"version": version, "evaluation": evaluation.id, **_override_fields(override)}
        transaction.audit(person, "promotion", "intent", subject=promotion.id, detail=detail)
        return promotion


def waiting_promotion(records: Records, model: str, version: str) -> Promotion:
    """Return the promotion of a version that waits for people; raise UsageError when none does."""
    checked_version(version)
    for promotion in records.find(Promotion, model=model, version=version, state=RunState.WAITING):
        return promotion
    raise UsageError(
        f"no promotion of version {version} waits for approval", next=f'ask for one: "make promote VERSION={version}"'
    )


def evidence_of(records: Records, promotion: Promotion) -> Evidence:
    """Return what an approval of `promotion` covers at this moment."""
    evaluation = records.get(Evaluation, promotion.evaluation_id)
    champion = serving_release(records, promotion.model, promotion.environment)
    return Evidence(
        model=promotion.model,
        version=promotion.version,
        environment=promotion.environment,
        bundle_digest=evaluation.bundle_digest or "",
        report_digest=evaluation.report_digest or "",
        policy_digest=policy_in_force(records).digest,
        champion_release=champion.id if champion else None,
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
            _apply_decision(transaction, promotion, approval)
        verb = "approve" if approved else "reject"
        detail: dict[str, Any] = {"promotion": promotion_id, "reason": reason[:500], "report": evidence.report_digest}
        if refusal:
            detail["refused"] = refusal.message
        transaction.audit(person, f"promotion.{verb}", "outcome", subject=promotion_id, detail=detail)
    if refusal:
        raise refusal
    return approval


def request_rollback(records: Records, *, person: str, model: str, environment: Environment, now: str) -> Rollback:
    """Ask to go back to the previous good release of an environment."""
    with records.write() as transaction:
        serving = serving_release(transaction, model, environment)
        rollback = Rollback(
            transaction.new_id(Rollback), model, environment, person, now, replaces=serving.id if serving else None
        )
        transaction.add(rollback)
        detail = {"environment": environment}
        transaction.audit(person, "rollback", "intent", subject=rollback.id, detail=detail)
        return rollback


def request_policy(records: Records, *, person: str, body: object, now: str) -> PolicyChange:
    """Ask for a policy to be put in force; raise PolicyInvalid before anything is written."""
    policy = Policy.parse(body)
    with records.write() as transaction:
        change = PolicyChange(transaction.new_id(PolicyChange), policy.digest, policy.body, person, now)
        transaction.add(change)
        transaction.audit(person, "policy", "intent", subject=change.id, detail={"digest": policy.digest})
        return change


def request_maintenance(records: Records, *, person: str, model: str, verb: str, now: str) -> Maintenance:
    """Ask for the leases of all environments, for as long as the installation itself is changed.

    One process at a time changes it, which its home's lock sees to: whoever asked before has died, and is ended.
    """
    with records.write() as transaction:
        for former in transaction.find(Maintenance, model=model):
            _ask_end(transaction, former, person=person, now=now)
        change = Maintenance(transaction.new_id(Maintenance), model, verb, person, now)
        transaction.add(change)
        transaction.audit(person, "maintenance", "intent", subject=change.id, detail={"verb": verb})
        return change


def end_maintenance(records: Records, *, person: str, id: str, now: str) -> Maintenance:
    """Ask for the leases of maintenance to be given back; asking twice is asking once."""
    with records.write() as transaction:
        return _ask_end(transaction, transaction.get(Maintenance, id), person=person, now=now)


def policy_in_force(transaction: Transaction | Records) -> Policy:
    """Return the policy in force; raise UsageError before any was applied."""
    applied = transaction.find(PolicyChange, state=RunState.DONE)
    if not applied:
        raise UsageError("no policy is in force", next='run "slipway policy apply policy.yaml"')
    return Policy.parse(applied[-1].body)


def serving_release(transaction: Transaction | Records, model: str, environment: Environment) -> ReleaseRecord | None:
    """Return the recorded release of an environment's live slot, if any."""
    found = transaction.find(ReleaseRecord, model=model, environment=environment, state=ReleaseState.SERVING)
    return found[-1] if found else None


def expiry(policy: Policy, now: str) -> str:
    """Return when a promotion that starts to wait at `now` expires."""
    until = datetime.fromisoformat(now) + timedelta(hours=policy.approvals.valid_h)
    return until.isoformat(timespec="milliseconds")


def _ask_end(transaction: Transaction, change: Maintenance, *, person: str, now: str) -> Maintenance:
    if change.state.final or change.end_asked_at:
        return change
    transaction.audit(person, "maintenance.end", "intent", subject=change.id)
    return transaction.change(change, end_asked_at=now)


def _evaluation(
    transaction: Transaction, person: str, model: str, version: str, *, override: Override | None, now: str
) -> Evaluation:
    fields = _override_fields(override)
    for begun in transaction.find(Evaluation, model=model, version=version):
        if not begun.state.final and begun.override_gates == fields["override_gates"]:
            return begun
    evaluation = Evaluation(transaction.new_id(Evaluation), model, version, person, now, **fields)
    transaction.add(evaluation)
    transaction.audit(person, "evaluation.request", "intent", subject=evaluation.id, detail={"version": version})
    return evaluation


def _valid_evaluation(
    transaction: Transaction, model: str, version: str, override: Override | None, champion: ReleaseRecord | None
) -> Evaluation | None:
    ended = [e for e in transaction.find(Evaluation, model=model, version=version) if e.state.final and e.report]
    # The newest report counts, a no as well: an older yes must not be picked out.
    if not ended or ended[-1].state is not RunState.DONE or ended[-1].report is None:
        return None
    newest, policy = ended[-1], policy_in_force(transaction)
    report = ended[-1].report
    same_gates = newest.override_gates == _override_fields(override)["override_gates"]
    holds = (
        _judged_by(newest) == (policy.digest, champion.id if champion else None)
        and report["profile"] in policy.production.accepts
        and (same_gates or report["verdict"] == "passed")
    )
    return newest if holds else None


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
    if approved and (evidence.policy_digest, evidence.champion_release) != _judged_by(evaluation):
        reason = "the report was made under another policy or against another champion than today's"
        return ApprovalVoid(reason, next=f"let it be rejected, then evaluate again: {again}")
    return None


def _judged_by(evaluation: Evaluation) -> tuple[str, str | None]:
    """Return the policy and the champion's release that a report was made with."""
    report = evaluation.report or {"policy_digest": "", "champion": None}
    return report["policy_digest"], (report["champion"] or {}).get("release")


def _apply_decision(transaction: Transaction, promotion: Promotion, approval: Approval) -> None:
    if not approval.approved:
        error = {"code": "rejected", "message": f"rejected by {approval.person}: {approval.reason}", "next": ""}
        transaction.change(promotion, state=RunState.STOPPED, error=error, ended_at=approval.at)
        return
    given = [a for a in transaction.find(Approval, promotion_id=promotion.id) if a.approved]
    if len(given) >= policy_in_force(transaction).approvals.count:
        transaction.change(promotion, state=RunState.APPROVED)


def _override_fields(override: Override | None) -> dict[str, Any]:
    if override is None:
        return {"override_gates": [], "override_reason": None}
    return {"override_gates": sorted(override.gates), "override_reason": override.reason}
