"""What a bundle is known by: its typed schema, its digest, and what may follow what.

The digest of a bundle is the SHA-256 of its canonical `bundle.json`, which holds the SHA-256 of every
other file of the bundle.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipelines.domain.description import CategoryFeature, Description, NumericFeature, Range


class FeatureType(StrEnum):
    """What a request may carry in a feature."""

    INTEGER = "integer"
    NUMBER = "number"
    CATEGORY = "category"


@dataclass(frozen=True)
class Feature:
    """One input of a model.

    `minimum` and `maximum` are declared bounds, refused outside; `observed` is the range seen in the
    data, which only informs. `categories` is empty unless the type is CATEGORY.
    """

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    observed: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()

    def written(self) -> CategoryFeature | NumericFeature:
        """Return the form that stands in `bundle.json`."""
        if self.type is FeatureType.CATEGORY:
            return CategoryFeature(name=self.name, type="category", categories=self.categories)
        return NumericFeature(
            name=self.name,
            type="integer" if self.type is FeatureType.INTEGER else "number",
            minimum=self.minimum,
            maximum=self.maximum,
            observed=Range(minimum=self.observed[0], maximum=self.observed[1]) if self.observed else None,
        )

    @classmethod
    def read(cls, written: CategoryFeature | NumericFeature) -> "Feature":
        """Rebuild what `written` returned."""
        if isinstance(written, CategoryFeature):
            return cls(written.name, FeatureType.CATEGORY, categories=written.categories)
        seen = written.observed
        return cls(
            name=written.name,
            type=FeatureType(written.type),
            minimum=written.minimum,
            maximum=written.maximum,
            observed=(seen.minimum, seen.maximum) if seen else None,
        )


@dataclass(frozen=True)
class Schema:
    """What a model takes and what it answers; `classes` are the labels as text."""

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    positive: str

    @classmethod
    def of(cls, bundle: Description) -> "Schema":
        """Return the schema of a bundle."""
        features = tuple(Feature.read(feature) for feature in bundle.features)
        return cls(features, bundle.output.classes, bundle.output.positive)


def canonical(body: dict[str, Any]) -> bytes:
    """Return the one byte form of a JSON object: sorted keys, no blanks, UTF-8, no NaN."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(content: bytes) -> str:
    """Return `sha256:<hex>` of `content`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def schema_breaks(serving: Schema, candidate: Schema) -> tuple[str, ...]:
    """Return why requests that `serving` accepts would be refused, or answered otherwise, by `candidate`.

    Empty means compatible: the same features and types, no category or value range lost, the same classes.
    """
    breaks = []
    offered = {feature.name: feature for feature in candidate.features}
    known = {feature.name for feature in serving.features}
    breaks += [f"feature {name} is new and required" for name in offered if name not in known]
    for feature in serving.features:
        if feature.name not in offered:
            breaks.append(f"feature {feature.name} is gone, and unknown fields are refused")
        else:
            breaks += _feature_breaks(feature, offered[feature.name])
    if set(serving.classes) != set(candidate.classes) or serving.positive != candidate.positive:
        breaks.append(f"answers {list(candidate.classes)} instead of {list(serving.classes)}")
    return tuple(breaks)


def _feature_breaks(serving: Feature, candidate: Feature) -> list[str]:
    widened = (serving.type, candidate.type) == (FeatureType.INTEGER, FeatureType.NUMBER)
    if serving.type is not candidate.type and not widened:
        return [f"feature {serving.name} was {serving.type} and is {candidate.type}"]
    lost = [category for category in serving.categories if category not in candidate.categories]
    breaks = [f"feature {serving.name} no longer accepts {category!r}" for category in lost]
    if candidate.minimum is not None and (serving.minimum is None or candidate.minimum > serving.minimum):
        breaks.append(f"feature {serving.name} no longer accepts values below {candidate.minimum:g}")
    if candidate.maximum is not None and (serving.maximum is None or candidate.maximum < serving.maximum):
        breaks.append(f"feature {serving.name} no longer accepts values above {candidate.maximum:g}")
    return breaks
