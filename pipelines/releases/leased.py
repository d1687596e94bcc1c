"""Work under an environment's lease: whatever comes, it ends with its outcome on record and the lease given back."""

from collections.abc import Callable

from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Environment
from pipelines.errors import LostLease, SlipwayError
from pipelines.governance.work import stop
from pipelines.ports import Step, Transaction
from pipelines.releases import leases
from pipelines.releases.rollout import at_step, keep_trying, record_failure
from pipelines.releases.services import Services

Leased = Evaluation | Promotion | Rollback

# What each kind of work is called in the audit trail when it stops.
_STOP_ACTIONS: dict[type[Leased], str] = {
    Evaluation: "evaluation.stop",
    Promotion: "promotion.stop",
    Rollback: "rollback.stop",
}


def under_lease(
    services: Services, work: Leased, environment: Environment, step: Step, *, carry_out: Callable[[], None]
) -> None:
    """Take the lease (K0), carry out, and give it back (K10); a refusal on the way stops the work and is recorded.

    Raises LostLease: who has lost it may write nothing any more.
    """

    def take() -> int:
        return at_step(services, "K0", lambda: leases.acquire(services, work.model, environment, work.id))

    try:
        step("K0 lease taken", take)
        carry_out()
    except LostLease:
        raise
    except SlipwayError as refusal:
        stopped = refusal
        step("stopped", lambda: keep_trying(services, lambda: stop_work(services, work, stopped)))

    def give_back() -> None:
        at_step(services, "K10", lambda: keep_trying(services, lambda: leases.give_back(services, work.id)))

    step("K10 lease given back", give_back)


def stop_work(services: Services, work: Leased, error: SlipwayError) -> None:
    """Record that work does not go on, nor what it left half-way, and give its leases back.

    The promotions that wait for an evaluation end with it.
    """
    with services.records.write() as transaction:
        current = transaction.get(type(work), work.id)
        if current.state.final:
            return
        _record_stop(transaction, services, current, error)
        for release in transaction.find(ReleaseRecord, change_id=work.id, state=ReleaseState.STARTING):
            record_failure(transaction, services, release, error.message)
        leases.free(transaction, services, work.id)
        if isinstance(current, Evaluation):
            for promotion in transaction.find(Promotion, evaluation_id=current.id, state=RunState.REQUESTED):
                _record_stop(transaction, services, promotion, error)


def _record_stop(transaction: Transaction, services: Services, work: Leased, error: SlipwayError) -> None:
    stop(transaction, work, error, at=services.now())
    detail = error.as_dict()
    transaction.audit("executor", _STOP_ACTIONS[type(work)], "outcome", subject=work.id, detail=detail)
