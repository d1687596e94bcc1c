"""Asking that nothing be released while the installation itself is changed."""

from pipelines.domain.events import EventKind
from pipelines.domain.records import Maintenance
from pipelines.governance import work
from pipelines.ports import Records, Transaction


def request_maintenance(records: Records, *, person: str, model: str, verb: str, now: str) -> Maintenance:
    """Ask for the leases of all environments, for as long as the installation itself is changed.

    One process at a time changes it, which its home's lock sees to: whoever asked before has died, and is ended.
    """
    with records.write() as transaction:
        for former in transaction.find(Maintenance, model=model):
            _ask_end(transaction, former, person=person, now=now)
        change = Maintenance(transaction.new_id(Maintenance), model, verb, person, now)
        work.ask(transaction, change)
        transaction.audit(person, "maintenance", "intent", subject=change.id, detail={"verb": verb})
        return change


def end_maintenance(records: Records, *, person: str, id: str, now: str) -> Maintenance:
    """Ask for the leases of maintenance to be given back; asking twice is asking once."""
    with records.write() as transaction:
        return _ask_end(transaction, transaction.get(Maintenance, id), person=person, now=now)


def _ask_end(transaction: Transaction, change: Maintenance, *, person: str, now: str) -> Maintenance:
    if change.state.final or change.end_asked_at:
        return change
    transaction.audit(person, "maintenance.end", "intent", subject=change.id)
    transaction.emit(EventKind.MAINTENANCE_END_ASKED, subject=change.id, model=change.model)
    return transaction.change(change, end_asked_at=now)
