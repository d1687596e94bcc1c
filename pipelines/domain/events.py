"""What happens, in the past tense: the one list of the kinds of events.

An event is written in the transaction of the change that it tells, and never changed afterwards.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """What happened; `subject` is the id of the work, the release or the version that it happened to."""

    VERSION_PINNED = "version_pinned"
    VERSION_TRACED = "version_traced"
    VERSION_MEASURED = "version_measured"
    EVALUATION_ASKED = "evaluation_asked"
    EVALUATION_STARTED = "evaluation_started"
    EVALUATION_COMPLETED = "evaluation_completed"
    EVALUATION_STOPPED = "evaluation_stopped"
    EVALUATION_CANCEL_ASKED = "evaluation_cancel_asked"
    PROMOTION_ASKED = "promotion_asked"
    APPROVAL_ASKED = "approval_asked"
    DECISION_MADE = "decision_made"
    PROMOTION_APPROVED = "promotion_approved"
    PROMOTION_STARTED = "promotion_started"
    PROMOTION_COMPLETED = "promotion_completed"
    PROMOTION_STOPPED = "promotion_stopped"
    ROLLBACK_ASKED = "rollback_asked"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_COMPLETED = "rollback_completed"
    ROLLBACK_STOPPED = "rollback_stopped"
    RELEASE_STARTED = "release_started"
    VERSION_RELEASED = "version_released"
    RELEASE_FAILED = "release_failed"
    POLICY_ASKED = "policy_asked"
    POLICY_CHANGED = "policy_changed"
    POLICY_STOPPED = "policy_stopped"
    EVALSET_ASKED = "evalset_asked"
    EVALSET_STARTED = "evalset_started"
    EVALSET_ADDED = "evalset_added"
    EVALSET_STOPPED = "evalset_stopped"
    MAINTENANCE_ASKED = "maintenance_asked"
    MAINTENANCE_STARTED = "maintenance_started"
    MAINTENANCE_END_ASKED = "maintenance_end_asked"
    MAINTENANCE_ENDED = "maintenance_ended"
    MAINTENANCE_STOPPED = "maintenance_stopped"
    ARCHIVING_ASKED = "archiving_asked"
    ARCHIVING_ENDED = "archiving_ended"
    MODEL_ADDED = "model_added"
    MODEL_REMOVAL_ASKED = "model_removal_asked"
    MODEL_ARCHIVED = "model_archived"
    DISAGREEMENT_APPEARED = "disagreement_appeared"
    LIVE_DRIFT_APPEARED = "live_drift_appeared"
    LIVE_DRIFT_ENDED = "live_drift_ended"
    PROGRESS_MADE = "progress_made"


@dataclass(frozen=True)
class Event:
    """One thing that happened; `seq` only grows and gives the order, `at` is ISO 8601 UTC and only informs."""

    seq: int
    at: str
    kind: EventKind
    model: str | None
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)
