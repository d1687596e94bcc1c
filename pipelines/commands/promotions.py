"""Asking for production: a promotion waits for its evaluation, then for people."""

from pipelines.commands.evaluations import ask_evaluation, override_fields
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.promotion import Override, RunState
from pipelines.domain.records import Evaluation, Promotion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.errors import UsageError
from pipelines.governance import work
from pipelines.governance.models import refuse_removed
from pipelines.governance.progress import report_progress
from pipelines.governance.standing import changed_since, expiry, judged_by, policy_in_force, serving_release
from pipelines.ports import Records, Transaction


def request_promotion(
    records: Records, *, person: str, model: str, version: str, override: Override | None, now: str
) -> Promotion:
    """Ask for production; a promotion of the same version that still waits is returned instead.

    A report made under the policy and by the gates in force, and against the serving champion, is used again; without
    one, an evaluation is asked for first, and what has made a passed one void is told and audited.
    """
    checked_name(model, what="model")
    checked_version(version)
    with records.write() as transaction:
        refuse_removed(transaction, model)
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
        newest = _passed_evaluation(transaction, model, version, override)
        void = _void_reasons(transaction, newest, champion) if newest else ()
        usable = None if void else newest
        evaluation = usable or ask_evaluation(transaction, person, model, version, override=override, now=now)
        policy = policy_in_force(transaction, model)
        promotion = Promotion(
            id=transaction.new_id(Promotion),
            model=model,
            version=version,
            environment=Environment.PRODUCTION,
            requested_by=person,
            created_at=now,
            evaluation_id=evaluation.id,
            measured_before=usable is not None,
            **override_fields(override),
        )
        work.ask(transaction, promotion)
        detail = {"version": version, "evaluation": evaluation.id, **override_fields(override)}
        if newest and void:
            detail["void"] = {"evaluation": newest.id, "changed": list(void)}
            told = f"{newest.id} has passed, and does not count any more: {'; '.join(void)}"
            report_progress(transaction, promotion.id, "earlier pass void", told)
        transaction.audit(person, "promotion", "intent", subject=promotion.id, detail=detail)
        if usable:
            promotion = work.move(transaction, promotion, RunState.WAITING, expires_at=expiry(policy, now))
        return promotion


def _passed_evaluation(
    transaction: Transaction, model: str, version: str, override: Override | None
) -> Evaluation | None:
    """Return the newest evaluation of a version where it says yes to what is asked for; what it rests on may be old."""
    ended = [e for e in transaction.find(Evaluation, model=model, version=version) if e.state.final and e.report]
    # The newest report counts, also one that failed: an older one that passed must not be picked out.
    if not ended or ended[-1].state is not RunState.DONE or ended[-1].report is None:
        return None
    newest, report = ended[-1], ended[-1].report
    same_gates = newest.override_gates == override_fields(override)["override_gates"]
    return newest if same_gates or report["verdict"] == "passed" else None


def _void_reasons(transaction: Transaction, newest: Evaluation, champion: ReleaseRecord | None) -> tuple[str, ...]:
    """Return why a new promotion can't rest on an evaluation that has passed."""
    assert newest.report is not None
    reasons = changed_since(transaction, newest)
    compared, serving = judged_by(newest)[1], champion.id if champion else None
    if compared != serving:
        reasons += (f"champion release was {compared} and is {serving}",)
    accepted = policy_in_force(transaction, newest.model).production.accepts
    if newest.report["profile"] not in accepted:
        reasons += (f"the report is {newest.report['profile']} evidence, and production takes {', '.join(accepted)}",)
    return reasons
