"""Asking that nothing be released while the installation itself is changed."""

from pipelines.domain.events import EventKind
from pipelines.domain.records import Maintenance
from pipelines.errors import NotAllowed
from pipelines.governance import work
from pipelines.ports import Records, Transaction
from pipelines.settings.tokens import OPERATOR


def request_maintenance(records: Records, *, person: str, model: str, verb: str, now: str) -> Maintenance:
    """Ask for the leases of all environments, for as long as the installation itself is changed.

    One process at a time changes it, which its home's lock sees to: whoever asked before has died, and is ended.
    """
    with records.write() as transaction:
        for former in transaction.find(Maintenance, model=model):
            _refuse_stranger(former, person)
            _ask_end(transaction, former, person=person, now=now)
        change = Maintenance(transaction.new_id(Maintenance), model, verb, person, now)
        work.ask(transaction, change)
        transaction.audit(person, "maintenance", "intent", subject=change.id, detail={"verb": verb})
        return change


def end_maintenance(records: Records, *, person: str, id: str, now: str) -> Maintenance:
    """Ask for the leases of maintenance to be given back; asking twice is asking once."""
    with records.write() as transaction:
        change = transaction.get(Maintenance, id)
        _refuse_stranger(change, person)
        return _ask_end(transaction, change, person=person, now=now)


def _refuse_stranger(change: Maintenance, person: str) -> None:
    """Raise NotAllowed for who neither asked for unfinished maintenance nor is the operator."""
    if change.state.final or change.end_asked_at or person in (change.requested_by, OPERATOR):
        return
    raise NotAllowed(
        f"{change.id} is maintenance of {change.requested_by}, and {person} can't end it",
        next=f"{' or '.join(sorted({change.requested_by, OPERATOR}))} ends it, or it ends by itself",
    )


def _ask_end(transaction: Transaction, change: Maintenance, *, person: str, now: str) -> Maintenance:
    if change.state.final or change.end_asked_at:
        return change
    transaction.audit(person, "maintenance.end", "intent", subject=change.id)
    transaction.emit(EventKind.MAINTENANCE_END_ASKED, subject=change.id, model=change.model)
    return transaction.change(change, end_asked_at=now)
