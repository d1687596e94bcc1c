"""Going back: a release like any other, to the recorded previous good one, without measuring again."""

from pipelines.domain.promotion import PastRelease, ReleaseState, RunState, rollback_target
from pipelines.domain.records import ReleaseRecord, Rollback
from pipelines.errors import Refused
from pipelines.governance.work import move
from pipelines.ports import Records, Step, Transaction
from pipelines.releases.leased import under_lease
from pipelines.releases.rollout import Change, at_step, put_in_service
from pipelines.releases.services import Services
from pipelines.releases.undo import refuse_contradicted
from pipelines.releases.waiting import read


def roll_back(services: Services, rollback_id: str, step: Step) -> None:
    """Bring an environment back to its previous good release, or leave it and say why."""
    rollback = read(services, Rollback, rollback_id)

    def carry_out() -> None:
        found = step(
            "K1 previous good release found",
            lambda: at_step(services, "K1", lambda: _find_target(services.records, rollback)),
        )
        target = read(services, ReleaseRecord, found)
        change = Change(
            holder=rollback_id,
            kind="rollback",
            model=rollback.model,
            environment=rollback.environment,
            version=target.version,
            bundle_digest=target.bundle_digest,
            actor=rollback.requested_by,
            evidence=target.evidence,
            restores=target.id,
        )
        put_in_service(services, change, step, finish=_finish)

    under_lease(services, rollback, step, carry_out=carry_out)


def _find_target(records: Records, rollback: Rollback) -> str:
    """Return the id of the release that a rollback restores; raise NoRollbackTarget, or Refused if another serves."""
    history = records.find(ReleaseRecord, model=rollback.model, environment=rollback.environment)
    serving = next((r.id for r in reversed(history) if r.state is ReleaseState.SERVING), None)
    if serving != rollback.replaces:
        raise Refused(
            f"{rollback.environment} was changed from {rollback.replaces} to {serving} since this was asked for",
            next='see "slipway status", then ask again if it is still wanted',
        )
    meant = next((r for r in history if r.id == rollback.during), None)
    if meant and meant.state is ReleaseState.FAILED:
        raise Refused(
            f"version {meant.version} was half-done when this was asked for, and is undone: {rollback.environment} "
            f"serves what was released before it",
            next='see "slipway status", then ask again to go back further',
        )
    past = [PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in history]
    target = rollback_target(past)
    refuse_contradicted(records, records.get(ReleaseRecord, target.id))
    return target.id


def _finish(
    transaction: Transaction, services: Services, change: Change, served: ReleaseRecord, previous: ReleaseRecord | None
) -> None:
    rollback = transaction.get(Rollback, change.holder)
    move(
        transaction,
        rollback,
        RunState.DONE,
        release_id=served.id,
        version=served.version,
        replaced=previous.version if previous else None,
        ended_at=services.now(),
    )
