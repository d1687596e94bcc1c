"""What a bundle is known by: its typed schema, its digest, and what may follow what.

The digest of a bundle is the SHA-256 of its canonical `bundle.json`, which holds the SHA-256 of every
other file of the bundle.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from pipelines.domain.description import (
    CategoryFeature,
    Description,
    Label,
    NumericFeature,
    PlainFeature,
    Range,
    TextFeature,
    Value,
)


class FeatureType(StrEnum):
    """What a request may carry in a feature."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TEXT = "text"
    DATE = "date"
    DATETIME = "datetime"

    @property
    def is_text(self) -> bool:
        """Whether a model takes it as text; it takes all else as numbers."""
        return self in (FeatureType.CATEGORY, FeatureType.TEXT)


@dataclass(frozen=True)
class Feature:
    """One input of a model.

    `minimum` and `maximum` are declared bounds, refused outside; `observed` is the range seen in the data, which only
    informs. `categories` is empty unless the type is CATEGORY, `maximum_length` (in characters) None unless it is TEXT.
    A nullable one may be missing.
    """

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    observed: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    maximum_length: int | None = None
    nullable: bool = False

    def takes(self, value: Value) -> bool:
        """Whether the service takes a request's value in this feature, dates and times as they are written."""
        if value is None:
            return self.nullable
        if isinstance(value, str):
            return (
                self.takes_text(value) if self.type.is_text else self.type in (FeatureType.DATE, FeatureType.DATETIME)
            )
        if isinstance(value, bool) or self.type is FeatureType.BOOLEAN:
            return isinstance(value, bool) and self.type is FeatureType.BOOLEAN
        if self.type is FeatureType.INTEGER and value != int(value):
            return False
        within = (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)
        return within and self.type in (FeatureType.INTEGER, FeatureType.NUMBER)

    def takes_text(self, text: str) -> bool:
        """Whether the service takes a text in this feature."""
        if self.type is FeatureType.CATEGORY:
            return text in self.category_set
        return self.type is FeatureType.TEXT and len(text) <= (self.maximum_length or 0)

    @cached_property
    def category_set(self) -> frozenset[str]:
        """The categories, of which a feature may have more than anybody looks through."""
        return frozenset(self.categories)

    def written(self) -> CategoryFeature | NumericFeature | TextFeature | PlainFeature:
        """Return the form that stands in `bundle.json`."""
        known = {"name": self.name, "type": self.type.value, "nullable": self.nullable}
        if self.type is FeatureType.CATEGORY:
            return CategoryFeature.model_validate({**known, "categories": self.categories})
        if self.type is FeatureType.TEXT:
            return TextFeature.model_validate({**known, "maximum_length": self.maximum_length})
        if self.type not in (FeatureType.INTEGER, FeatureType.NUMBER):
            return PlainFeature.model_validate(known)
        observed = Range(minimum=self.observed[0], maximum=self.observed[1]) if self.observed else None
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return NumericFeature.model_validate({**known, **bounds, "observed": observed})

    @classmethod
    def read(cls, written: CategoryFeature | NumericFeature | TextFeature | PlainFeature) -> "Feature":
        """Rebuild what `written` returned."""
        feature = cls(written.name, FeatureType(written.type), nullable=written.nullable)
        if isinstance(written, CategoryFeature):
            return replace(feature, categories=written.categories)
        if isinstance(written, TextFeature):
            return replace(feature, maximum_length=written.maximum_length)
        if isinstance(written, NumericFeature):
            seen = written.observed
            observed = (seen.minimum, seen.maximum) if seen else None
            return replace(feature, minimum=written.minimum, maximum=written.maximum, observed=observed)
        return feature


@dataclass(frozen=True)
class Schema:
    """What a model takes and what it answers: a number without `classes`, P(positive), or without it P of each."""

    features: tuple[Feature, ...]
    classes: tuple[Label, ...]
    positive: Label | None

    @classmethod
    def of(cls, bundle: Description) -> "Schema":
        """Return the schema of a bundle."""
        features = tuple(Feature.read(feature) for feature in bundle.features)
        return cls(features, bundle.output.classes, bundle.output.positive)

    @property
    def answers(self) -> tuple[frozenset[tuple[type, Label]], Label | None]:
        """What is answered, whatever the order of the classes; 1 is not the same as true."""
        return frozenset((type(each), each) for each in self.classes), self.positive


# So many lost categories of a feature are told one by one.
_NAMED_CATEGORIES = 10
# From a type to one that takes all that it took.
_WIDER = {(FeatureType.INTEGER, FeatureType.NUMBER), (FeatureType.CATEGORY, FeatureType.TEXT)}


def canonical(body: dict[str, Any]) -> bytes:
    """Return the one byte form of a JSON object: sorted keys, no blanks, UTF-8, no NaN."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(content: bytes) -> str:
    """Return `sha256:<hex>` of `content`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def schema_breaks(serving: Schema, candidate: Schema) -> tuple[str, ...]:
    """Return why requests that `serving` accepts would be refused, or answered otherwise, by `candidate`.

    Empty means compatible: the features of before with their types, no category or value range lost, none new that may
    not be missing, and the same answers.
    """
    breaks = []
    offered = {feature.name: feature for feature in candidate.features}
    known = {feature.name for feature in serving.features}
    fresh = [each for each in candidate.features if each.name not in known and not each.nullable]
    breaks += [f"feature {each.name} is new and required" for each in fresh]
    for feature in serving.features:
        if feature.name not in offered:
            breaks.append(f"feature {feature.name} is gone, and unknown fields are refused")
        else:
            breaks += _feature_breaks(feature, offered[feature.name])
    if serving.answers != candidate.answers:
        breaks.append(f"answers {_answers(candidate)} instead of {_answers(serving)}")
    return tuple(breaks)


def schema_gains(serving: Schema, candidate: Schema) -> tuple[str, ...]:
    """Return what `candidate` accepts beyond `serving`: no client has to change for it."""
    known = {feature.name: feature for feature in serving.features}
    gains = []
    for feature in candidate.features:
        before = known.get(feature.name)
        if before is None:
            gains += [f"feature {feature.name} is new and may be left out"] * feature.nullable
            continue
        if (before.type, feature.type) in _WIDER:
            gains.append(f"feature {feature.name} was {before.type} and is {feature.type}")
        gains += [f"feature {feature.name} may now be missing"] * (feature.nullable and not before.nullable)
        if before.type is feature.type is FeatureType.CATEGORY:
            known_before = frozenset(before.categories)
            fresh = [category for category in feature.categories if category not in known_before]
            gains += _listed(f"feature {feature.name} also accepts", "more values", fresh)
        gains += _wider_bounds(before, feature)
    return tuple(gains)


def _wider_bounds(serving: Feature, candidate: Feature) -> list[str]:
    gains = []
    low, high, length = serving.minimum, serving.maximum, serving.maximum_length
    if low is not None and (candidate.minimum is None or candidate.minimum < low):
        gains.append(f"feature {serving.name} also accepts values below {low:g}")
    if high is not None and (candidate.maximum is None or candidate.maximum > high):
        gains.append(f"feature {serving.name} also accepts values above {high:g}")
    if length is not None and (candidate.maximum_length or 0) > length:
        gains.append(f"feature {serving.name} also accepts texts of more than {length} characters")
    return gains


def shared_requests(
    rows: Sequence[Mapping[str, Value]], one: Iterable[Feature], other: Iterable[Feature]
) -> list[dict[str, Value]]:
    """Return the requests among `rows` that both take, cut to the fields that both know."""
    first, second = ({each.name: each for each in features} for features in (one, other))
    cut = ({name: value for name, value in row.items() if name in first and name in second} for row in rows)
    return [row for row in cut if all(each.takes(row.get(each.name)) for each in (*first.values(), *second.values()))]


def _answers(schema: Schema) -> str:
    if not schema.classes:
        return "a number"
    return f"{list(schema.classes)}" + (f" with P({schema.positive})" if schema.positive is not None else "")


def _feature_breaks(serving: Feature, candidate: Feature) -> list[str]:
    if serving.type is not candidate.type and (serving.type, candidate.type) not in _WIDER:
        return [f"feature {serving.name} was {serving.type} and is {candidate.type}"]
    breaks = [f"feature {serving.name} may no longer be missing"] * (serving.nullable and not candidate.nullable)
    if candidate.type is FeatureType.CATEGORY:
        kept = candidate.category_set
        lost = [category for category in serving.categories if category not in kept]
        breaks += _listed(f"feature {serving.name} no longer accepts", "of its values", lost)
    breaks += _shorter(serving, candidate)
    if candidate.minimum is not None and (serving.minimum is None or candidate.minimum > serving.minimum):
        breaks.append(f"feature {serving.name} no longer accepts values below {candidate.minimum:g}")
    if candidate.maximum is not None and (serving.maximum is None or candidate.maximum < serving.maximum):
        breaks.append(f"feature {serving.name} no longer accepts values above {candidate.maximum:g}")
    return breaks


def _listed(said: str, what: str, categories: list[str]) -> list[str]:
    """Say something of categories: of each by itself, or of how many where nobody would read them all."""
    if len(categories) <= _NAMED_CATEGORIES:
        return [f"{said} {category!r}" for category in categories]
    named = ", ".join(map(repr, categories[:_NAMED_CATEGORIES]))
    return [f"{said} {len(categories):,} {what}, such as {named}"]


def _shorter(serving: Feature, candidate: Feature) -> list[str]:
    """Return what a text no longer accepts that a text of before, or one of its categories, was."""
    if candidate.maximum_length is None:
        return []
    longest = max([serving.maximum_length or 0, *map(len, serving.categories)])
    if longest <= candidate.maximum_length:
        return []
    return [f"feature {serving.name} no longer accepts texts of more than {candidate.maximum_length} characters"]
