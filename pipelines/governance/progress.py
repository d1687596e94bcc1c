"""What work is doing, a line a step, for people who watch."""

from dataclasses import dataclass

from pipelines.domain.events import EventKind
from pipelines.ports import Records, Transaction


@dataclass(frozen=True)
class Progress:
    """One line of what a piece of work is doing, readable while it runs."""

    id: str
    subject: str
    step: str
    message: str
    at: str


def report_progress(transaction: Transaction, subject: str, step: str, message: str) -> None:
    """Tell one line."""
    detail = {"step": step, "message": message}
    transaction.emit(EventKind.PROGRESS_MADE, subject=subject, detail=detail)


def progress_of(source: Records | Transaction, subject: str, *, after: int = 0) -> list[Progress]:
    """Return the lines of a piece of work after an event, oldest first."""
    told = source.events(after=after, subject=subject, kinds=[EventKind.PROGRESS_MADE])
    return [Progress(f"s-{each.seq}", subject, each.detail["step"], each.detail["message"], each.at) for each in told]
