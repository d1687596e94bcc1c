"""Asking for the previous good release."""

from pipelines.domain.records import ReleaseRecord, Rollback
from pipelines.domain.release import Environment
from pipelines.governance import work
from pipelines.governance.models import refuse_removed
from pipelines.governance.standing import serving_release
from pipelines.ports import Records


def request_rollback(records: Records, *, person: str, model: str, environment: Environment, now: str) -> Rollback:
    """Ask to go back to the previous good release of an environment."""
    with records.write() as transaction:
        refuse_removed(transaction, model)
        serving = serving_release(transaction, model, environment)
        half_done = [
            r for r in transaction.find(ReleaseRecord, model=model, environment=environment) if r.state.half_done
        ]
        rollback = Rollback(
            transaction.new_id(Rollback),
            model,
            environment,
            person,
            now,
            replaces=serving.id if serving else None,
            during=half_done[-1].id if half_done else None,
        )
        work.ask(transaction, rollback)
        detail = {"environment": environment}
        transaction.audit(person, "rollback", "intent", subject=rollback.id, detail=detail)
        return rollback
