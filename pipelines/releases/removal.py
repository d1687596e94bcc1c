"""Removing a model: its slots are drained and its aliases removed, and what is recorded of it stays.

Each part bears repetition: a removal that was cut off is begun anew by whoever looks next.
"""

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import DeployFailed
from pipelines.governance.models import archived, removal
from pipelines.releases import leases
from pipelines.releases.rollout import write_lifecycles
from pipelines.releases.services import Services
from pipelines.releases.undo import bring_back, empty_slots, end_intents, undo_left


def remove_model(services: Services, model: str) -> None:
    """Have nothing of a model serve any more, and record it as archived.

    Raises LeaseHeld while somebody else changes an environment of it, LostLease, and DeployFailed for what resists.
    """
    holder = removal(model)
    for environment in Environment:
        endpoint = Endpoint(model, environment)
        with leases.holding(services, endpoint, holder):
            services.note(holder, f"{environment} is drained", "")
            _end_releases(services, endpoint, holder)
            # Nothing is recorded by now, so this empties the live slot and removes the alias. What came to nothing
            # before is undone as well: later there is nothing left to undo it in.
            troubles = undo_left(services, endpoint, holder) or bring_back(services, endpoint, holder)
            troubles += empty_slots(services, endpoint, holder)
        if troubles:
            services.note(holder, f"{environment} is drained", f"not yet: {'; '.join(troubles)}")
            raise DeployFailed(f"{endpoint} is not drained: {'; '.join(troubles)}")
    write_lifecycles(services, model)
    with services.records.write() as transaction:
        leases.confirm_leader(services, within=transaction)
        archived(transaction, model, at=services.now())


def _end_releases(services: Services, endpoint: Endpoint, holder: str) -> None:
    where = {"model": endpoint.model, "environment": endpoint.environment, "state": ReleaseState.SERVING}
    with services.records.write() as transaction:
        leases.confirm(services, endpoint.model, endpoint.environment, holder, within=transaction)
        for release in transaction.find(ReleaseRecord, **where):
            transaction.change(release, state=ReleaseState.SUPERSEDED, ended_at=services.now())
            end_intents(transaction, release, {"result": "removed"})
