"""Going back: a release like any other, to the recorded previous good one, without measuring again."""

from pipelines.domain.promotion import PastRelease, ReleaseState, RunState, rollback_target
from pipelines.domain.records import ReleaseRecord, Rollback
from pipelines.errors import LostLease, Refused, SlipwayError
from pipelines.ports import Records, Step, Transaction
from pipelines.workflows import leases
from pipelines.workflows.services import Services
from pipelines.workflows.serving import Change, keep_trying, put_in_service


def roll_back(services: Services, rollback_id: str, step: Step) -> None:
    """Bring an environment back to its previous good release, or leave it and say why."""
    rollback = services.records.get(Rollback, rollback_id)
    model, environment = rollback.model, rollback.environment
    try:
        step("K0 lease taken", lambda: leases.acquire(services, model, environment, rollback_id))
        target_id = step("K1 previous good release found", lambda: find_target(services.records, rollback).id)
        target = services.records.get(ReleaseRecord, target_id)
        change = Change(
            holder=rollback_id,
            kind="rollback",
            model=model,
            environment=environment,
            version=target.version,
            bundle_digest=target.bundle_digest,
            actor=rollback.requested_by,
            evidence=target.evidence,
            restores=target.id,
        )
        put_in_service(services, change, step, finish=_finish)
    except LostLease:
        raise
    except SlipwayError as refusal:
        stopped = refusal
        step("stopped", lambda: keep_trying(services, lambda: _stop(services, rollback_id, stopped)))
    step(
        "K10 lease given back",
        lambda: keep_trying(services, lambda: leases.give_back(services, model, environment, rollback_id)),
    )


def find_target(records: Records, rollback: Rollback) -> ReleaseRecord:
    """Return the release that a rollback restores; raise NoRollbackTarget, or Refused when another serves now."""
    history = records.find(ReleaseRecord, model=rollback.model, environment=rollback.environment)
    serving = next((r.id for r in reversed(history) if r.state is ReleaseState.SERVING), None)
    if serving != rollback.replaces:
        raise Refused(
            f"{rollback.environment} was changed from {rollback.replaces} to {serving} since this was asked for",
            next='see "slipway status", then ask again if it is still wanted',
        )
    past = [PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in history]
    return records.get(ReleaseRecord, rollback_target(past).id)


def _finish(
    transaction: Transaction, services: Services, change: Change, served: ReleaseRecord, previous: ReleaseRecord | None
) -> None:
    rollback = transaction.get(Rollback, change.holder)
    transaction.change(
        rollback,
        state=RunState.DONE,
        release_id=served.id,
        version=served.version,
        replaced=previous.version if previous else None,
        ended_at=services.now(),
    )


def _stop(services: Services, rollback_id: str, refusal: SlipwayError) -> None:
    with services.records.write() as transaction:
        rollback = transaction.get(Rollback, rollback_id)
        if rollback.state.final:
            return
        transaction.change(rollback, state=RunState.STOPPED, error=refusal.as_dict(), ended_at=services.now())
        detail = {"code": refusal.code, "message": refusal.message[:500]}
        transaction.audit("executor", "rollback.stop", "outcome", subject=rollback_id, detail=detail)
