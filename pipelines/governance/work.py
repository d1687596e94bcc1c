"""The one place where the state of work changes, so that no change goes untold.

Each change and its event are written in the caller's transaction: both are there, or neither.
"""

from collections.abc import Mapping
from typing import TypeVar

from pipelines.domain.events import EventKind
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, Maintenance, PolicyChange, Promotion, ReleaseRecord, Rollback
from pipelines.domain.work import Work, may_become
from pipelines.errors import SlipwayError
from pipelines.ports import Transaction

W = TypeVar("W", bound=Work)

_TOLD: Mapping[tuple[type[Work], RunState], EventKind] = {
    (Evaluation, RunState.REQUESTED): EventKind.EVALUATION_ASKED,
    (Evaluation, RunState.RUNNING): EventKind.EVALUATION_STARTED,
    (Evaluation, RunState.DONE): EventKind.EVALUATION_COMPLETED,
    (Evaluation, RunState.STOPPED): EventKind.EVALUATION_STOPPED,
    (Promotion, RunState.REQUESTED): EventKind.PROMOTION_ASKED,
    (Promotion, RunState.WAITING): EventKind.APPROVAL_ASKED,
    (Promotion, RunState.APPROVED): EventKind.PROMOTION_APPROVED,
    (Promotion, RunState.RUNNING): EventKind.PROMOTION_STARTED,
    (Promotion, RunState.DONE): EventKind.PROMOTION_COMPLETED,
    (Promotion, RunState.STOPPED): EventKind.PROMOTION_STOPPED,
    (Rollback, RunState.REQUESTED): EventKind.ROLLBACK_ASKED,
    (Rollback, RunState.RUNNING): EventKind.ROLLBACK_STARTED,
    (Rollback, RunState.DONE): EventKind.ROLLBACK_COMPLETED,
    (Rollback, RunState.STOPPED): EventKind.ROLLBACK_STOPPED,
    (PolicyChange, RunState.REQUESTED): EventKind.POLICY_ASKED,
    (PolicyChange, RunState.DONE): EventKind.POLICY_CHANGED,
    (PolicyChange, RunState.STOPPED): EventKind.POLICY_STOPPED,
    (AddedSet, RunState.REQUESTED): EventKind.EVALSET_ASKED,
    (AddedSet, RunState.RUNNING): EventKind.EVALSET_STARTED,
    (AddedSet, RunState.DONE): EventKind.EVALSET_ADDED,
    (AddedSet, RunState.STOPPED): EventKind.EVALSET_STOPPED,
    (Maintenance, RunState.REQUESTED): EventKind.MAINTENANCE_ASKED,
    (Maintenance, RunState.RUNNING): EventKind.MAINTENANCE_STARTED,
    (Maintenance, RunState.DONE): EventKind.MAINTENANCE_ENDED,
    (Maintenance, RunState.STOPPED): EventKind.MAINTENANCE_STOPPED,
}

# What an event tells of the work, where the work has it.
_DETAILS = ("version", "environment", "requested_by", "applied_by", "verb", "digest", "verdict", "expires_at", "error")


def ask(transaction: Transaction, work: W) -> W:
    """Store new work and tell that it was asked for."""
    transaction.add(work)
    _tell(transaction, work)
    return work


def move(transaction: Transaction, work: W, state: RunState, **values: object) -> W:
    """Bring work into a state, with new values of other fields, and tell it; raise SlipwayError where none leads."""
    if not may_become(work, state):
        raise SlipwayError(f"{work.id} is {work.state} and can't become {state}", next='run "slipway doctor"')
    moved = transaction.change(work, state=state, **values)
    _tell(transaction, moved)
    return moved


def stop(transaction: Transaction, work: W, error: SlipwayError, *, at: str) -> W:
    """End work without its result, because of a refusal."""
    return move(transaction, work, RunState.STOPPED, error=error.as_dict(), ended_at=at)


def tell_release(transaction: Transaction, kind: EventKind, release: ReleaseRecord, **more: str | None) -> None:
    """Tell what became of a release, which `transaction` records too."""
    detail = {"environment": release.environment, "version": release.version, "kind": release.kind, **more}
    transaction.emit(kind, subject=release.id, model=release.model, detail=detail)


def _tell(transaction: Transaction, work: Work) -> None:
    detail = {name: value for name in _DETAILS if (value := getattr(work, name, None)) is not None}
    model = None if isinstance(work, PolicyChange) else work.model
    transaction.emit(_TOLD[type(work), work.state], subject=work.id, model=model, detail=detail)
