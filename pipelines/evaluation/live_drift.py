"""How far what production was asked is from what its version was trained on, measured in one confined job.

The rows of a training come from a stranger's run. Its answer counts only if it is about the features that were asked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipelines.domain.bundle import Feature
from pipelines.domain.description import WrittenFeature
from pipelines.domain.live_drift import FeatureMoved, Moves, Span
from pipelines.errors import JobFailed
from pipelines.packaging.confined import REFERENCE, Form, Run, ask

if TYPE_CHECKING:
    from pipelines.evaluation.drift import Moved

# What was asked, as a file of the job.
_ASKED = "asked.parquet"


class LiveDriftTask(Form):
    """Asks how far the rows of some features are from those of a training."""

    kind: Literal["live drift"] = "live drift"
    features: tuple[WrittenFeature, ...]
    judge_times: bool = Field(description="Whether dates and times are judged as numbers are.")
    minimum_rows: int = Field(description="With fewer rows of either side nothing is measured.")


class _Measured(Form):
    moves: Moves


def ask_live_drift(run: Run, task: LiveDriftTask, *, trained_on: Path, asked: Path) -> Moves:
    """Have it measured; raise NotServable for files that can't be read, and JobFailed for no answer to the task."""
    moves = ask(run, task, {REFERENCE: trained_on, _ASKED: asked}, _Measured).moves
    wanted = sorted(each.name for each in task.features)
    enough = min(moves.rows_before, moves.rows_now) >= task.minimum_rows
    answered = sorted([*(each.name for each in moves.features), *moves.left_out])
    if answered != (wanted if enough else []):
        raise JobFailed(
            f"the confined job answered for {len(answered)} features, and asked were {len(wanted)} others",
            next="see the executor's log",
        )
    return moves


def measure_live_drift(task: LiveDriftTask, place: Path) -> Form:
    """Measure it with the files in `place`, inside of such a job."""
    import pyarrow.parquet as pq

    from pipelines.evaluation import drift
    from pipelines.packaging.snapshot import read_snapshot

    training, asked = read_snapshot(place / REFERENCE), pq.read_table(place / _ASKED).to_pandas()
    rows = (len(training.frame), len(asked))
    if min(rows) < task.minimum_rows:
        return _Measured(moves=Moves(rows_before=rows[0], rows_now=rows[1]))
    features = [Feature.read(each) for each in task.features]
    common = drift.Common.of(training.description.features, features, judge_times=task.judge_times)
    before, now = drift.sampled(training.frame), drift.sampled(asked)
    apart = drift.apart(before, now, common.judged) if common.judged else None
    moves = Moves(
        rows_before=rows[0],
        rows_now=rows[1],
        features=(
            *_moved(common.moved(before, now), judged=True),
            *_moved(drift.moved(before, now, common.shown), judged=False),
        ),
        together=_span(apart.auc, apart.interval) if apart else None,
        left_out=tuple(name for name in common.left_out if name in {each.name for each in features}),
    )
    return _Measured(moves=moves)


def _moved(moved: "Sequence[Moved]", *, judged: bool) -> list[FeatureMoved]:
    return [
        FeatureMoved(
            name=each.name,
            type=each.type,
            judged=judged,
            distance=_span(each.distance, each.interval),
            missing_before=each.missing[0],
            missing_now=each.missing[1],
            typical_before=each.typical[0],
            typical_now=each.typical[1],
        )
        for each in moved
    ]


def _span(value: float, interval: tuple[float, float]) -> Span:
    return Span(value=value, low=interval[0], high=interval[1])
