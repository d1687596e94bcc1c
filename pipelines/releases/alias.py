"""Moving an environment's alias: under the lease, with its intent and outcome, and read back.

The release record is the truth and the alias its projection: of a version that has served before and that somebody has
deleted since, no alias can say that it serves again. That is told and audited, and in the way of nothing.

The registry takes the last writer's word, so a former holder may still write when it wakes: who moves an alias confirms
the lease right before and right after, and whoever holds it then puts right what came too late. So does who gave a
write up that was not answered.
"""

from collections.abc import Callable

from pipelines.domain import audit
from pipelines.domain.release import Endpoint
from pipelines.errors import RegistryUnavailable, UnknownVersion
from pipelines.ports import ModelRegistry, Transaction
from pipelines.releases import leases
from pipelines.releases.services import Services
from pipelines.releases.waiting import keep_trying

_MOVE = "alias.move"
_REMOVED = "version deleted, alias removed"


def is_deleted(find: Callable[[str, str], object], model: str, version: str) -> bool:
    """Whether the registry, which `find` asks, does not know a version that was released; raise RegistryUnavailable."""
    try:
        find(model, version)
    except UnknownVersion:
        return True
    return False


def point_alias(
    services: Services,
    endpoint: Endpoint,
    version: str | None,
    *,
    holder: str,
    actor: str,
    subject: str,
    served_before: bool = False,
) -> None:
    """Have the alias say `version`, going on while the registry is away; nothing is written where it says so already.

    Of a version that has `served_before` and was deleted, the alias is removed. Raises LostLease, UnknownVersion of
    another one, and RegistryUnavailable after the deadline.
    """
    model, environment = endpoint.model, endpoint.environment
    epoch = leases.confirm(services, model, environment, holder)
    detail: dict[str, object] = {"alias": environment, "version": version, "epoch": epoch}
    begun = deleted = False

    def write() -> None:
        nonlocal begun, deleted
        said = services.registry.aliases(model).get(environment)
        if said == version or (said is None and _is_told_deleted(services, model, version, subject)):
            return
        if not begun:
            with services.records.write() as transaction:
                leases.confirm(services, model, environment, holder, within=transaction)
                # An attempt before this one has begun it, and could not end it: that is audited already.
                if not any(entry.detail.get("version") == version for entry in _open(transaction, subject)):
                    transaction.audit(actor, _MOVE, "intent", subject=subject, detail=detail)
            begun = True
        with leases.confirmed(services, model, environment, holder):
            try:
                deleted = not _is_moved(services.registry, endpoint, version, served_before)
            except RegistryUnavailable:
                # It may be carried out as long as nobody knows that it was not.
                services.unanswered.add(endpoint, version)
                raise

    keep_trying(services, write)
    if deleted:
        detail["result"] = _REMOVED
        told = f"version {version} is deleted from the registry: no @{environment} can say that it serves"
        services.note(holder, "alias removed", told)
    with services.records.write() as transaction:
        # Begun here, or by whoever was cut off in the middle of it.
        if _open(transaction, subject):
            transaction.audit(actor, _MOVE, "outcome", subject=subject, detail=detail)


def _open(transaction: Transaction, subject: str) -> list[audit.Entry]:
    """Return the moves for a subject that were begun and have no outcome."""
    return [entry for entry in audit.open_intents(transaction.audited(subject)) if entry.action == _MOVE]


def _is_told_deleted(services: Services, model: str, version: str | None, subject: str) -> bool:
    """Whether the last move for a subject removed the alias of a version as deleted, and that is still so."""
    moves = [entry for entry in services.records.audited(subject) if entry.action == _MOVE]
    if version is None or not moves or moves[-1].detail.get("result") != _REMOVED:
        return False
    return moves[-1].detail.get("version") == version and is_deleted(services.registry.version, model, version)


def _is_moved(registry: ModelRegistry, endpoint: Endpoint, version: str | None, served_before: bool) -> bool:
    """Move an alias; return False where it was removed instead, as the version is deleted."""
    try:
        registry.move_alias(endpoint.model, endpoint.environment, version)
    except UnknownVersion:
        if not served_before:
            raise
        registry.move_alias(endpoint.model, endpoint.environment, None)
        return False
    return True
