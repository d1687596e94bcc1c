"""What an evaluation set holds: read in a confined job, as strangers' files are, and what comes back of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.domain.description import Task
from pipelines.domain.texts import one_line
from pipelines.packaging.confined import EVALUATION, Form, Run, ask
from pipelines.packaging.logged_data import HashedRows
from pipelines.packaging.snapshot import SnapshotDescription, read_snapshot
from pipelines.packaging.training_rows import TrainingRows

_LABEL_CHARS = 200
Finite = Annotated[float, Field(allow_inf_nan=False)]


class EvaluationSetTask(Form):
    """Asks what an evaluation set holds."""

    kind: Literal["evaluation set"] = "evaluation set"


class _Read(Form):
    description: dict[str, Any]
    rows: HashedRows
    labels: tuple[tuple[str, int], ...] = Field(max_length=1000)
    target: tuple[Finite, Finite, Finite] | None

    @model_validator(mode="after")
    def _is_understood(self) -> Self:
        SnapshotDescription.from_dict(self.description)
        self.rows.decoded()
        return self


@dataclass(frozen=True)
class EvaluationSet:
    """An evaluation set: what its columns mean, its rows by their hashes, and how its target is spread.

    `labels` are the classes with their counts, the most frequent first; `target` are the least, the middle and the
    greatest value of a regression's, None of a classification's.
    """

    description: SnapshotDescription
    rows: TrainingRows
    labels: tuple[tuple[str, int], ...]
    target: tuple[float, float, float] | None


def ask_evaluation_set(run: Run, file: Path) -> EvaluationSet:
    """Have an evaluation set read by a confined job; raise NotServable for what is none."""
    read = ask(run, EvaluationSetTask(), {EVALUATION: file}, _Read)
    labels = tuple((one_line(label, _LABEL_CHARS), count) for label, count in read.labels)
    return EvaluationSet(SnapshotDescription.from_dict(read.description), read.rows.decoded(), labels, read.target)


def read_evaluation_set(task: EvaluationSetTask, place: Path) -> Form:
    """Return what the file in `place` holds, inside of such a job."""
    from pipelines.packaging.reading import refuse_missing_truth

    snapshot = read_snapshot(place / EVALUATION)
    refuse_missing_truth(snapshot)
    labels: tuple[tuple[str, int], ...] = ()
    target = None
    if snapshot.description.task is Task.REGRESSION:
        values = snapshot.target.astype(float)
        target = (float(values.min()), float(values.median()), float(values.max())) if len(values) else None
    else:
        counts = snapshot.target.astype(str).value_counts()
        labels = tuple((str(label), int(count)) for label, count in counts.items())
    return _Read(
        description=snapshot.description.as_dict(),
        rows=HashedRows.of(TrainingRows.of(snapshot)),
        labels=labels,
        target=target,
    )
