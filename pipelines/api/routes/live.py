"""/live: what is known of the requests that are served: how many, what was answered, how well, and their drift."""

import math
import re
import sys
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Before, Model, Reading, RequestBody, State
from pipelines.api.responses import Asked, ModelName, ResponseBody, Time, Version
from pipelines.api.work import Step, events_of, follow_work, shown_steps
from pipelines.commands import answered_by, request_look
from pipelines.domain.description import Label, Task
from pipelines.domain.live_drift import Glance, Look
from pipelines.domain.promotion import RunState
from pipelines.domain.records import LiveDrift, LiveWindow
from pipelines.domain.release import Environment
from pipelines.errors import UsageError
from pipelines.governance.live_drift import live_drift, look_subject
from pipelines.ports import Records

router = guarded_router("live")
_LISTED = 200
_NUMBER = re.compile("[1-9][0-9]{0,8}")


class ScoresShown(ResponseBody):
    """How the answers of a window are distributed; of a classifier by class, of a regression by its numbers."""

    classes: dict[str, int] | None = Field(None, description="How often each class was answered.")
    bins: list[int] | None = Field(None, description="In how many rows P(positive) was in each twentieth of 0 to 1.")
    mean: float | None = Field(None, description="Of the numbers; null where their sum has no end.")
    deviation: float | None = Field(None, description="Their standard deviation; null where that of squares has none.")
    minimum: float | None = None
    maximum: float | None = None


class QualityShown(ResponseBody):
    """Metrics of a window on the rows whose labels are known."""

    labelled: int = Field(description="How many rows those are.")
    accuracy: float | None = None
    accuracy_low: float | None = Field(None, description="Lower bound of its 95 % interval.")
    accuracy_high: float | None = Field(None, description="Upper bound.")
    macro_f1: float | None = None
    auc: float | None = Field(None, description="ROC AUC; of several classes the mean of each against the others.")
    log_loss: float | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None


class WindowShown(ResponseBody):
    """What a version was asked on a day in an environment."""

    id: str
    environment: Environment
    version: Version
    day: str = Field(description="Its date, in UTC.")
    seen: int = Field(description="Rows that were answered.")
    kept: int = Field(description="Rows that were sampled, and are kept.")
    dropped: int = Field(description="Rows that were sampled and are lost, those of lost replicas by an estimate.")
    lost: int = Field(description="Replicas that went, with what they had sampled since they were asked last.")
    scores: ScoresShown
    quality: QualityShown | None = Field(description="Null where no label is known.")
    at: Time


class DriftShown(ResponseBody):
    """How far what production is asked is from what its version was trained on. It warns, and stops nothing."""

    drifted: bool = Field(description="What the last look found that had enough rows.")
    look: Look | None = Field(description="The last one; null before the first.")
    history: list[Glance] = Field(description="Of the last looks, this one the last; of a wait for rows only one.")


class LookShown(ResponseBody):
    """A look that somebody asked for."""

    id: str
    state: RunState
    look: Look | None = Field(description="The last one, once this one was made.")
    steps: list[Step]


class LiveShown(ResponseBody):
    """What is known of the requests of a model, by version and day, oldest first."""

    model: ModelName
    task: Task | None = Field(description="What it answers; null before a request was sampled.")
    classes: list[Label] | None = Field(description="Its classes, as a label has to be; none of a regression.")
    windows: list[WindowShown]
    more: bool = Field(description="Whether there are older ones: ask again with `before`.")
    drift: DriftShown


@router.get("")
def show_live(
    state: Reading,
    model: Model,
    environment: Annotated[Environment | None, Query(description="Of this environment only.")] = None,
    before: Before = None,
) -> LiveShown:
    """Show what was asked, answered and lost, and how well, of the last two hundred windows."""
    equals: dict[str, object] = {"environment": environment} if environment else {}
    found, more = state.records.newest(LiveWindow, _LISTED, before=before, model=model, **equals)
    output = answered_by(state.records, model)
    return LiveShown(
        model=model,
        task=Task(output["task"]) if output else None,
        classes=output["classes"] if output else None,
        windows=[_shown(window) for window in found],
        more=more,
        drift=_drift(live_drift(state.records, model)),
    )


@router.post("/drift", status_code=202)
def ask_look(body: RequestBody, state: State) -> Asked:
    """Have the executor look how far what production is asked is from what its version was trained on."""
    return Asked(id=str(request_look(state.records, model=body.model_of(state))))


@router.get("/drift/{id}")
def show_look(id: str, state: Reading, model: Model) -> LookShown:
    """Return a look that somebody asked for."""
    return _look(state.records, model, id)


@router.get("/drift/{id}/events", **events_of(LookShown))
def follow_look(id: str, request: Request, state: Reading, model: Model) -> StreamingResponse:
    """Stream it as server-sent events until the executor has looked."""
    return follow_work(request, state, lambda: _look(state.records, model, id))


def _drift(known: LiveDrift) -> DriftShown:
    return DriftShown(
        drifted=known.drifted,
        look=Look.model_validate(known.look) if known.look else None,
        history=[Glance.model_validate(each) for each in known.history],
    )


def _look(records: Records, model: str, id: str) -> LookShown:
    known = live_drift(records, model)
    if not _NUMBER.fullmatch(id) or int(id) > known.asked:
        raise UsageError(f"nobody asked for look {id[:40]!r}", next='run "slipway live --drift"')
    done = int(id) <= known.answered
    return LookShown(
        id=id,
        state=RunState.DONE if done else RunState.REQUESTED,
        look=_drift(known).look if done else None,
        steps=shown_steps(records, look_subject(known, int(id))),
    )


def _shown(window: LiveWindow) -> WindowShown:
    return WindowShown(
        id=window.id,
        environment=window.environment,
        version=window.version,
        day=window.day,
        seen=window.seen,
        kept=window.kept,
        dropped=window.dropped,
        lost=window.lost,
        scores=_scores(window.scores),
        quality=QualityShown(**window.quality) if window.quality else None,
        at=window.at,
    )


def _scores(scores: dict[str, Any]) -> ScoresShown:
    if "count" not in scores:
        return ScoresShown(**scores)
    mean, squares = (
        total / scores["count"] if _has_end(total) else None for total in (scores["sum"], scores["squares"])
    )
    deviation = None if mean is None or squares is None else math.sqrt(max(0.0, squares - mean * mean))
    return ScoresShown(mean=mean, deviation=deviation, minimum=scores["minimum"], maximum=scores["maximum"])


def _has_end(total: float) -> bool:
    """Whether a sum is one: what has no end is kept as the largest number."""
    return abs(total) < sys.float_info.max
