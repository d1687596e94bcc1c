"""What model.yaml says of a feature, by its type."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from pipelines.domain.bundle import Feature, FeatureType

if TYPE_CHECKING:
    import pandas as pd

MOST_NAME_CHARS = 128
Name = Annotated[StrictStr, Field(min_length=1, max_length=MOST_NAME_CHARS)]
# A column of the source that is no feature may be called anything.
ColumnName = Annotated[StrictStr, Field(min_length=1)]


class Strict(BaseModel):
    """A part of model.yaml: exactly these keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Numeric(Strict):
    """A numeric feature: declared bounds are enforced when serving; `blank` is what a missing value means.

    One that is `nullable` may be missing, and the model is told so. `one_hot` encodes each whole number from `minimum`
    to `maximum` by itself, as a flag wants it.
    """

    type: Literal["integer", "number"]
    minimum: float | None = None
    maximum: float | None = None
    blank: float | None = None
    nullable: bool = False
    one_hot: bool = False

    @model_validator(mode="after")
    def _bounds_fit_the_type(self) -> Self:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds != sorted(bounds):
            raise ValueError("minimum is above maximum")
        if self.type == "integer" and any(not bound.is_integer() for bound in bounds):
            raise ValueError("bounds of an integer feature must be whole numbers")
        if self.type == "integer" and self.blank is not None and not self.blank.is_integer():
            raise ValueError("blank of an integer feature must be a whole number")
        if self.one_hot and (self.type != "integer" or len(bounds) != 2):
            raise ValueError("one_hot needs an integer feature with minimum and maximum")
        if self.nullable and (self.blank is not None or self.one_hot):
            raise ValueError("nullable needs neither blank nor one_hot beside it")
        return self


class Categorical(Strict):
    """A categorical feature: without declared categories, those observed in the source hold."""

    type: Literal["category"]
    categories: tuple[StrictStr, ...] = ()
    nullable: bool = False

    @model_validator(mode="after")
    def _no_category_twice(self) -> Self:
        if repeated := twice(self.categories):
            raise ValueError(f"categories given twice: {', '.join(map(repr, repeated))}")
        if self.nullable and "" in self.categories:
            raise ValueError("a nullable feature has no empty category: that is what a missing value is")
        return self


class Plain(Strict):
    """A feature of true and false, of ISO 8601 dates, or of ISO 8601 dates with a time (in UTC without an offset)."""

    type: Literal["boolean", "date", "datetime"]
    nullable: bool = False


class Text(Strict):
    """A feature of free text, of at most so many characters."""

    type: Literal["text"]
    maximum_length: Annotated[int, Field(ge=1, le=100_000)]
    nullable: bool = False


Rule = Annotated[Numeric | Categorical | Plain | Text, Field(discriminator="type")]


def feature_of(name: str, rule: Rule, column: "pd.Series[Any]") -> Feature:
    """Return a feature by what is declared of it and, beside that, what a column of it shows."""
    kind = FeatureType(rule.type)
    feature = Feature(name, kind, nullable=rule.nullable)
    if isinstance(rule, Numeric):
        unit = int if kind is FeatureType.INTEGER else float
        minimum, maximum = (None if bound is None else unit(bound) for bound in (rule.minimum, rule.maximum))
        known = column.dropna()
        observed = (unit(known.min()), unit(known.max())) if len(known) else None
        return replace(feature, minimum=minimum, maximum=maximum, observed=observed)
    if isinstance(rule, Categorical):
        return replace(feature, categories=rule.categories or tuple(sorted(column.dropna().unique())))
    return replace(feature, maximum_length=rule.maximum_length) if isinstance(rule, Text) else feature


def twice(names: Iterable[str]) -> list[str]:
    """Return the names that are given more than once, sorted."""
    return sorted(name for name, times in Counter(names).items() if times > 1)
