"""Asking for what nothing needs any more to be removed, and what came of it, both kept as events."""

import re
from dataclasses import dataclass
from typing import Any

from pipelines.domain.events import Event, EventKind
from pipelines.errors import UsageError
from pipelines.ports import Records, Transaction

SUBJECT = "archive"
_KINDS = (EventKind.ARCHIVING_ASKED, EventKind.ARCHIVING_ENDED)
_NUMBER = re.compile("[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Archiving:
    """What somebody asked for: `dry_run` only looks. `found` is None until the executor has answered.

    `seq` is the number of the event that asked.
    """

    seq: int
    requested_by: str
    dry_run: bool
    found: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def ask_archiving(records: Records, *, person: str, model: str, dry_run: bool) -> int:
    """Have the executor find what nothing needs any more and, unless it is a `dry_run`, remove it; return a number."""
    with records.write() as transaction:
        if not dry_run:
            transaction.audit(person, SUBJECT, "intent", subject=model)
        detail = {"requested_by": person, "dry_run": dry_run}
        transaction.emit(EventKind.ARCHIVING_ASKED, subject=SUBJECT, model=model, detail=detail)
        return transaction.newest_event()


def answer(transaction: Transaction, asked: Archiving, model: str, outcome: dict[str, Any]) -> None:
    """Tell what came of it: `found`, or `error`."""
    transaction.emit(EventKind.ARCHIVING_ENDED, subject=SUBJECT, model=model, detail={"asked": asked.seq, **outcome})


def unanswered(records: Records, after: int) -> list[Archiving]:
    """Return what was asked for after an event, and not answered."""
    events = records.events(after=after, subject=SUBJECT, kinds=_KINDS)
    return [asked for event in events if (asked := _of(event, events)) and asked.found is None and asked.error is None]


def archiving(records: Records, id: str) -> Archiving:
    """Return what was asked for by the event of a number; raise UsageError when it did not ask."""
    seq = int(id) if _NUMBER.fullmatch(id) else 0
    events = records.events(after=seq - 1, subject=SUBJECT, kinds=_KINDS)
    asked = _of(events[0], events) if events and events[0].seq == seq else None
    if asked is None:
        raise UsageError(f"nobody asked for archiving by event {id[:40]!r}", next='run "slipway archive"')
    return asked


def _of(event: Event, later: list[Event]) -> Archiving | None:
    if event.kind is not EventKind.ARCHIVING_ASKED:
        return None
    told = next((each.detail for each in later if each.detail.get("asked") == event.seq), {})
    asked = event.detail
    return Archiving(event.seq, asked["requested_by"], asked["dry_run"], told.get("found"), told.get("error"))
