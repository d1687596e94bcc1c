"""How far what production is asked is from what its version was trained on: what one look has found.

It is a warning, and judges no version.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.domain.bundle import FeatureType
from pipelines.domain.texts import one_line

# So many features are kept of a look, those that have moved furthest.
MOST_SHOWN = 100
_NAMED = 10
_TEXT_CHARS = 60
_NAME_CHARS = 1000

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Name = Annotated[str, Field(max_length=_NAME_CHARS)]


class Seen(StrEnum):
    """What a look has found: INCONCLUSIVE has too little to measure, and ERROR could not."""

    DRIFTED = "drifted"
    ALIKE = "alike"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """Return what a record keeps."""
        return self.model_dump(mode="json")


class Span(_Part):
    """A number with its interval."""

    value: _Share
    low: _Share = Field(description="Lower bound of the interval.")
    high: _Share = Field(description="Upper bound.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("the bounds of an interval are the wrong way round")
        return self


class FeatureMoved(_Part):
    """How far a feature has moved from before, its training, to now, what was asked."""

    name: _Name
    type: FeatureType
    judged: bool = Field(description="Whether it can make a look say drifted; dates and times only by policy.")
    distance: Span = Field(description="Jensen-Shannon: 0 for not at all, 1 for no value in common.")
    missing_before: _Share = Field(description="Share of the rows without a value.")
    missing_now: _Share
    typical_before: str = Field(description="The median, or the most frequent category.")
    typical_now: str

    @field_validator("typical_before", "typical_now")
    @classmethod
    def _shown(cls, text: str) -> str:
        return one_line(text, _TEXT_CHARS)


class Moves(_Part):
    """What was measured of two sides of so many rows, the furthest features first.

    Nothing, where there were too few rows or no feature in common; `left_out` are those that the training has not.
    """

    rows_before: _Count
    rows_now: _Count
    features: tuple[FeatureMoved, ...] = ()
    together: Span | None = None
    left_out: tuple[_Name, ...] = ()


class Limit(_Part):
    """Beyond what something has drifted, where the interval's lower bound is above it."""

    distance: float
    auc: float


class NotMeasured(_Part):
    """A feature that the look says nothing of."""

    name: str
    why: str


class Look(_Part):
    """What one look has found of what a version was asked in the hours before it."""

    at: str = Field(description="ISO 8601, UTC.")
    version: str | None = Field(description="The version in production; null where there was none.")
    hours: float = Field(description="How long before the look the rows were asked at most.")
    seen: Seen
    why: str = Field(description="What that rests on, in one line.")
    against: str = Field("", description="What the rows were compared with.")
    rows_before: int = Field(0, description="Rows of that.")
    rows_now: int = Field(0, description="Rows of what was asked.")
    rows_kept: int = Field(0, description="Of so many that are kept of these hours.")
    rows_needed: int = Field(0, description="With fewer rows of either side nothing is said.")
    limit: Limit | None = None
    drifted: tuple[str, ...] = Field((), description="The features that have drifted, the furthest first.")
    together: Span | None = Field(
        None, description="ROC AUC of a model that tells rows of both sides apart: 0.5 is not at all."
    )
    features: tuple[FeatureMoved, ...] = Field((), description=f"The {MOST_SHOWN} that have moved furthest.")
    of_features: int = Field(0, description="How many features were measured.")
    not_measured: tuple[NotMeasured, ...] = Field((), description="The others that the version takes.")


class Glance(_Part):
    """What is left of a look once there is a newer one."""

    at: str = Field(description="ISO 8601, UTC.")
    version: str | None
    seen: Seen
    why: str

    @classmethod
    def of(cls, look: Look) -> Self:
        """Return it of a look."""
        return cls(at=look.at, version=look.version, seen=look.seen, why=look.why)


def judge(moves: Moves, limit: Limit, *, against: str, rows_needed: int) -> tuple[Seen, str, tuple[str, ...]]:
    """Return what moves say, why in one line, and the features that have drifted.

    A feature, or all together, has drifted where that is proven: the interval's lower bound is above the limit.
    """
    sides = f"{moves.rows_now:,} rows that were asked against {moves.rows_before:,} of {against}"
    if min(moves.rows_now, moves.rows_before) < rows_needed:
        return Seen.INCONCLUSIVE, f"{sides}; {rows_needed:,} of each are needed", ()
    of_all = [each for each in moves.features if each.judged]
    if not of_all:
        return Seen.INCONCLUSIVE, f"no feature that is sampled can be compared with {against}", ()
    drifted = tuple(each.name for each in of_all if each.distance.low > limit.distance)
    together = moves.together is not None and moves.together.low > limit.auc
    told = f"{_told(of_all, limit)}; {_told_together(moves.together, limit)}; {sides}"
    return (Seen.DRIFTED if drifted or together else Seen.ALIKE), told, drifted


def _told(features: Sequence[FeatureMoved], limit: Limit) -> str:
    beyond = [each for each in features if each.distance.low > limit.distance]
    shown = ", ".join(f"{one_line(each.name, _TEXT_CHARS)} {_span(each.distance)}" for each in beyond[:_NAMED])
    if beyond:
        more = f" and {len(beyond) - _NAMED} more" if len(beyond) > _NAMED else ""
        return f"{len(beyond)} of {len(features)} features have drifted beyond {limit.distance:g}: {shown}{more}"
    worst = features[0]
    furthest = f"{one_line(worst.name, _TEXT_CHARS)} {_span(worst.distance)}"
    return f"none of {len(features)} features is proven to have drifted beyond {limit.distance:g}, furthest {furthest}"


def _told_together(together: Span | None, limit: Limit) -> str:
    if together is None:
        return "too few rows to tell all features together apart"
    beyond = "beyond" if together.low > limit.auc else "not proven to be beyond"
    return f"all together AUC {_span(together)}, {beyond} {limit.auc:g}"


def _span(span: Span) -> str:
    return f"{span.value:.3f} ({span.low:.3f} to {span.high:.3f})"
