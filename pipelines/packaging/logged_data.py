"""What a version has logged of its data: read in a confined job, as strangers' files are, and what comes back of it."""

import base64
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipelines.domain.bundle import FeatureType
from pipelines.packaging.confined import EVALUATION, TRAINING_ROWS, Form, Run, ask
from pipelines.packaging.snapshot import SnapshotDescription, read_snapshot
from pipelines.packaging.training_rows import Hashes, TrainingRows

_WIDTH = 8


class LoggedDataTask(Form):
    """Asks for the description and the hashes of a version's rows."""

    kind: Literal["data"] = "data"
    training_rows: bool = Field(description="Whether the hashes of the training's rows are among the files.")


class HashedRows(Form):
    """The fields of TrainingRows, hashes as base64."""

    identity: tuple[str, ...]
    values: dict[str, FeatureType]
    missing: dict[str, int]
    identities: str | None
    contents: str

    @classmethod
    def of(cls, rows: TrainingRows) -> Self:
        """Return the form of some rows."""
        identities = None if rows.identities is None else _encoded(rows.identities)
        return cls(
            identity=rows.identity,
            values=rows.values,
            missing=rows.missing,
            identities=identities,
            contents=_encoded(rows.contents),
        )

    def decoded(self) -> TrainingRows:
        """Return the rows; raise ValueError where its parts don't fit together."""
        identities = None if self.identities is None else _decoded(self.identities)
        contents = _decoded(self.contents)
        if bool(self.identity) is (identities is None) or self.missing.keys() != self.values.keys():
            raise ValueError("its columns are not those of its hashes")
        if identities is not None and len(identities) != len(contents):
            raise ValueError("it has not as many hashes of one kind as of the other")
        return TrainingRows(self.identity, self.values, self.missing, identities, contents)


class _LoggedData(Form):
    description: dict[str, Any]
    evaluation: HashedRows
    trained_on: HashedRows | None

    @model_validator(mode="after")
    def _is_understood(self) -> Self:
        self.decoded()
        return self

    def decoded(self) -> "LoggedData":
        trained_on = self.trained_on.decoded() if self.trained_on else None
        return SnapshotDescription.from_dict(self.description), self.evaluation.decoded(), trained_on


# The description of a version's data, the rows that evaluate it, and those that it was trained on, None where it does
# not say.
LoggedData = tuple[SnapshotDescription, TrainingRows, TrainingRows | None]


def ask_logged_data(run: Run, evaluation: Path, training_rows: Path | None) -> LoggedData:
    """Have the files of a version's data read by a confined job; raise NotServable for what they are not."""
    files = {EVALUATION: evaluation} | ({TRAINING_ROWS: training_rows} if training_rows else {})
    return ask(run, LoggedDataTask(training_rows=training_rows is not None), files, _LoggedData).decoded()


def read_logged_data(task: LoggedDataTask, place: Path) -> Form:
    """Return what the files in `place` say, inside of such a job."""
    evaluation = read_snapshot(place / EVALUATION)
    trained_on = TrainingRows.read(place / TRAINING_ROWS) if task.training_rows else None
    return _LoggedData(
        description=evaluation.description.as_dict(),
        evaluation=HashedRows.of(TrainingRows.of(evaluation)),
        trained_on=HashedRows.of(trained_on) if trained_on else None,
    )


def _encoded(hashes: Hashes) -> str:
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def _decoded(text: str) -> Hashes:
    content = base64.b64decode(text, validate=True)
    if len(content) % _WIDTH:
        raise ValueError(f"{len(content)} bytes are no hashes")
    return np.frombuffer(content, dtype="<u8").astype(np.uint64)
