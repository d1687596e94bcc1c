"""What the plots of a report are drawn from: bounded numbers, and nothing else.

They come out of a confined job, so a hostile one can send wrong numbers and nothing worse. Classes are meant by their
position among those of the bundle, and have their names from there.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_POINTS, MOST_BINS, MOST_CLASSES, MOST_MOVES = 200, 40, 12, 12
# A single drawing has no more lines; the figures of a report are then at most some 100 kB.
MOST_LINES = 6
_LARGEST = 1e30

Count = Annotated[int, Field(ge=0, le=10**12)]
Position = Annotated[int, Field(ge=0, le=10**6)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Value = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]


class Metric(StrEnum):
    """How well rows are answered."""

    ACCURACY = "accuracy"
    PRECISION = "precision"
    RECALL = "recall"
    F1 = "f1"
    AUC = "roc_auc"
    LOG_LOSS = "log_loss"
    BRIER = "brier"
    RMSE = "rmse"
    MAE = "mae"
    R2 = "r2"


class _Numbers(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


class Measured(_Numbers):
    """A metric on the rows that judge the version."""

    metric: Metric
    value: Value


class Difference(_Numbers):
    """A metric of both models on the same rows."""

    metric: Metric
    candidate: Value
    champion: Value


class Line(_Numbers):
    """A curve in at most 200 points; `position` is the class that it is about, null where there is no choice."""

    position: Position | None = None
    x: tuple[Value, ...] = Field(min_length=1, max_length=MOST_POINTS)
    y: tuple[Value, ...] = Field(min_length=1, max_length=MOST_POINTS)

    @model_validator(mode="after")
    def _points(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError("x and y are of different lengths")
        return self


class Bin(_Numbers):
    """Rows of about the same probability: the mean of what was said, and the share of what was so."""

    said: Share
    so: Share
    rows: Count


class Histogram(_Numbers):
    """How many rows lie between each two edges; of the candidate, and of the champion where the rows are shared."""

    edges: tuple[Value, ...] = Field(min_length=2, max_length=MOST_BINS + 1)
    candidate: tuple[Count, ...] = Field(max_length=MOST_BINS)
    champion: tuple[Count, ...] | None = Field(None, max_length=MOST_BINS)

    @model_validator(mode="after")
    def _bars(self) -> Self:
        for counts in (self.candidate, self.champion):
            if counts is not None and len(counts) != len(self.edges) - 1:
                raise ValueError("there is not one count between each two edges")
        if any(left >= right for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges do not ascend")
        return self


class Confusion(_Numbers):
    """How many rows of each class (a row of counts) were answered as which; of the most frequent classes."""

    positions: tuple[Position, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    counts: tuple[Annotated[tuple[Count, ...], Field(max_length=MOST_CLASSES)], ...] = Field(max_length=MOST_CLASSES)

    @model_validator(mode="after")
    def _square(self) -> Self:
        if {len(self.counts), *map(len, self.counts)} != {len(self.positions)}:
            raise ValueError("the counts are not one for each two classes")
        return self


class Move(_Numbers):
    """So many rows that production answers as one class, and the version as another."""

    before: Position
    after: Position
    rows: Count


class Versus(_Numbers):
    """What changes for users: both models on the same rows.

    A classifier's row is changed where another class is answered, `better` where only the version's is right; a
    regression's where the value differs by more than 1 % of production's, `better` where it lies nearer to the truth.
    `mean_shift` is the mean distance of what both answer: of P(positive), of the largest probability, or of the value.
    """

    rows: Count
    changed: Count
    better: Count
    worse: Count
    mean_shift: Value
    moves: tuple[Move, ...] = Field((), max_length=MOST_MOVES)
    metrics: tuple[Difference, ...] = Field((), max_length=len(Metric))
    roc: Line | None = Field(None, description="the champion's, where there are two classes")
    scores: Histogram | None = None


class Figures(_Numbers):
    """What was found on the rows that judge the version; what could not be taken is absent."""

    rows: Count = Field(description="that judge the version")
    metrics: tuple[Measured, ...] = Field((), max_length=len(Metric))
    roc: tuple[Line, ...] = Field((), max_length=MOST_LINES, description="true by false positive rate")
    precision_recall: tuple[Line, ...] = Field((), max_length=MOST_LINES, description="precision by recall")
    calibration: tuple[Bin, ...] = Field((), max_length=MOST_BINS)
    confusion: Confusion | None = None
    values: Line | None = Field(None, description="of a regression: what was answered (y) by what is so (x), a sample")
    residuals: Histogram | None = Field(None, description="of a regression: what was answered less what is so")
    versus: Versus | None = None
