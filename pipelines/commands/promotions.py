"""Asking for production: a promotion waits for its evaluation, then for people."""

from pipelines.commands.evaluations import ask_evaluation, override_fields
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.promotion import Override, RunState
from pipelines.domain.records import Evaluation, Promotion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.errors import UsageError
from pipelines.governance import work
from pipelines.governance.standing import expiry, judged_by, policy_in_force, serving_release
from pipelines.ports import Records, Transaction


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
        transaction.audit(person, "promotion", "intent", subject=promotion.id, detail=detail)
        if usable:
            promotion = work.move(transaction, promotion, RunState.WAITING, expires_at=expiry(policy, now))
        return promotion


def _valid_evaluation(
    transaction: Transaction, model: str, version: str, override: Override | None, champion: ReleaseRecord | None
) -> Evaluation | None:
    ended = [e for e in transaction.find(Evaluation, model=model, version=version) if e.state.final and e.report]
    # The newest report counts, also one that failed: an older one that passed must not be picked out.
    if not ended or ended[-1].state is not RunState.DONE or ended[-1].report is None:
        return None
    newest, policy = ended[-1], policy_in_force(transaction, model)
    report = ended[-1].report
    same_gates = newest.override_gates == override_fields(override)["override_gates"]
    holds = (
        judged_by(newest) == (policy.digest, champion.id if champion else None)
        and report["profile"] in policy.production.accepts
        and (same_gates or report["verdict"] == "passed")
    )
    return newest if holds else None
