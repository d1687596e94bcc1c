"""Work that should go on and does not: one truth for the doctor, the status and `up`.

A thread that is gone is told by nobody: work is judged by what it told last.
"""

from datetime import datetime

from pipelines.domain.events import Event, EventKind
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import (
    AddedSet,
    Evaluation,
    FurtherModel,
    LeaderLease,
    Lease,
    Maintenance,
    ModelState,
    PolicyChange,
    Promotion,
    ReleaseRecord,
    Rollback,
)
from pipelines.domain.work import Work
from pipelines.governance.models import removal
from pipelines.ports import Records
from pipelines.releases.leader import is_alive
from pipelines.releases.maintenance import left_s, unfinished

# Work that has told nothing for so long is stuck: longer than a slot may take to come up. What may take longer tells
# that it goes on.
QUIET_S = 900.0
# So late may begin what nothing is in the way of, and end what is over.
LATE_S = 120.0

# What lets the next evaluation begin.
_TURNS = (
    EventKind.EVALUATION_COMPLETED,
    EventKind.EVALUATION_STOPPED,
    EventKind.MAINTENANCE_ENDED,
    EventKind.MAINTENANCE_STOPPED,
)
_KINDS: tuple[type[Work], ...] = (Evaluation, Promotion, Rollback, PolicyChange, AddedSet, Maintenance)
_ALIVE = (RunState.REQUESTED, RunState.APPROVED, RunState.RUNNING)


def stalled_work(records: Records, now: str) -> list[str]:
    """Return a line for each piece of work that makes no progress, or should have begun or ended by `now`."""
    found = [work for state in _ALIVE for kind in _KINDS for work in records.find(kind, state=state)]
    removals = [removal(model.id) for model in records.find(FurtherModel, state=ModelState.REMOVING)]
    left = dict.fromkeys([work.id for work in found] + removals + _half_done(records))
    if left and not any(is_alive(leader, now) for leader in records.find(LeaderLease)):
        return [f"{', '.join(left)} does not go on: no executor shows that it lives"]
    found += records.find(Promotion, state=RunState.WAITING)
    lines = [_why_stalled(records, work, now) for work in found]
    lines += [_why_unremoved(records, id, now) for id in removals]
    return list(filter(None, lines))


def _why_unremoved(records: Records, id: str, now: str) -> str:
    """Say since when the removal of a model resists, "" for one that was asked for lately: it is tried without an end.

    So its own lines of progress say nothing.
    """
    asked = records.events(subject=id, kinds=[EventKind.MODEL_REMOVAL_ASKED])[-1:]
    since_s = _since_s(asked[0].at, now) if asked else 0.0
    return f"{id} was asked for {_minutes(since_s)} and is not done" if since_s > QUIET_S else ""


def _half_done(records: Records) -> list[str]:
    """Return the ids of releases that are not undone yet or came to no end, and of those who hold a lease."""
    states = [state for state in ReleaseState if state.half_done]
    releases = [release.id for state in states for release in records.find(ReleaseRecord, state=state)]
    return releases + [lease.holder for lease in records.find(Lease) if lease.holder]


def _why_stalled(records: Records, work: Work, now: str) -> str:
    """Say why a piece of work is stalled, "" for one that is not."""
    if isinstance(work, Maintenance):
        late_s = -left_s(work, now)
        return f"{work.id} should have ended {_minutes(late_s)}" if late_s > LATE_S else ""
    if work.state is RunState.WAITING:
        late_s = _since_s(getattr(work, "expires_at", None) or now, now)
        return f"{work.id} should have expired {_minutes(late_s)}" if late_s > LATE_S else ""
    told = records.events(subject=work.id)
    quiet_s = _since_s(told[-1].at if told else work.created_at, now)
    if work.state is RunState.RUNNING:
        steps = [each.detail["step"] for each in told if each.kind is EventKind.PROGRESS_MADE]
        step = steps[-1] if steps else "its start"
        holding = ", and holds a lease" if records.find(Lease, holder=work.id) else ""
        quiet = f"{work.id} has made no progress since {step!r}, {_minutes(quiet_s)}{holding}"
        return quiet if quiet_s > QUIET_S else ""
    free_s = min(quiet_s, _free_for_s(records, work, told, now))
    return f"{work.id} was to begin {_minutes(free_s)} and has not" if free_s > LATE_S else ""


def _free_for_s(records: Records, work: Work, told: list[Event], now: str) -> float:
    """Return for how long nothing has been in the way of work that is to begin, 0 while something is."""
    if isinstance(work, Promotion) and work.state is RunState.REQUESTED:
        measured = records.get(Evaluation, work.evaluation_id)
        return _since_s(measured.ended_at or now, now)
    if isinstance(work, AddedSet):
        return 0.0 if records.find(AddedSet, state=RunState.RUNNING) else float("inf")
    if not isinstance(work, Evaluation):
        return float("inf")
    mine = {"model": work.model}
    first = records.find(Evaluation, **mine, state=RunState.REQUESTED)[:1]
    if work not in first or records.find(Evaluation, **mine, state=RunState.RUNNING) or unfinished(records):
        return 0.0
    turns = records.events(after=told[0].seq, kinds=_TURNS) if told else []
    return _since_s(turns[-1].at, now) if turns else float("inf")


def _since_s(at: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds()


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min ago"
