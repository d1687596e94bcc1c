"""Moving an environment's alias: under the lease, with its intent and outcome, and read back.

The registry takes the last writer's word, so a former holder may still write when it wakes: who moves an alias confirms
the lease right before and right after, and whoever holds it then puts right what came too late. So does who gave a
write up that was not answered.
"""

from pipelines.domain import audit
from pipelines.domain.release import Endpoint
from pipelines.errors import RegistryUnavailable
from pipelines.releases import leases
from pipelines.releases.services import Services
from pipelines.releases.waiting import keep_trying

_MOVE = "alias.move"


def point_alias(
    services: Services, endpoint: Endpoint, version: str | None, *, holder: str, actor: str, subject: str
) -> None:
    """Have the alias say `version`, going on while the registry is away; nothing is written where it says so already.

    Raises LostLease, and RegistryUnavailable after the deadline.
    """
    model, environment = endpoint.model, endpoint.environment
    detail = {"alias": environment, "version": version, "epoch": leases.confirm(services, model, environment, holder)}
    begun = False

    def write() -> None:
        nonlocal begun
        if services.registry.aliases(model).get(environment) == version:
            return
        if not begun:
            with services.records.write() as transaction:
                leases.confirm(services, model, environment, holder, within=transaction)
                transaction.audit(actor, _MOVE, "intent", subject=subject, detail=detail)
            begun = True
        with leases.confirmed(services, model, environment, holder):
            try:
                services.registry.move_alias(model, environment, version)
            except RegistryUnavailable:
                # It may be carried out as long as nobody knows that it was not.
                services.unanswered.add(endpoint, version)
                raise

    keep_trying(services, write)
    with services.records.write() as transaction:
        # Begun here, or by whoever was cut off in the middle of it.
        if any(entry.action == _MOVE for entry in audit.open_intents(transaction.audited(subject))):
            transaction.audit(actor, _MOVE, "outcome", subject=subject, detail=detail)
