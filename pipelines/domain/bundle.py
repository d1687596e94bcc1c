"""A bundle's own description: its typed schema, its digest, and what may follow what.

The digest of a bundle is the SHA-256 of its canonical `bundle.json`, which holds the SHA-256 of every
other file of the bundle.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1


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

    def as_dict(self) -> dict[str, Any]:
        """Return the form that stands in `bundle.json`."""
        if self.type is FeatureType.CATEGORY:
            return {"name": self.name, "type": str(self.type), "categories": list(self.categories)}
        observed = {"minimum": self.observed[0], "maximum": self.observed[1]} if self.observed else None
        bounds = {"minimum": self.minimum, "maximum": self.maximum, "observed": observed}
        return {"name": self.name, "type": str(self.type), **bounds}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "Feature":
        """Rebuild what `as_dict` wrote."""
        observed = body.get("observed")
        return cls(
            name=body["name"],
            type=FeatureType(body["type"]),
            minimum=body.get("minimum"),
            maximum=body.get("maximum"),
            observed=(observed["minimum"], observed["maximum"]) if observed else None,
            categories=tuple(body.get("categories", ())),
        )


@dataclass(frozen=True)
class Schema:
    """What a model takes and what it answers; `classes` are the labels as text."""

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    positive: str

    @classmethod
    def from_bundle(cls, body: Mapping[str, Any]) -> "Schema":
        """Read the schema out of a parsed `bundle.json`."""
        return cls(
            features=tuple(Feature.from_dict(feature) for feature in body["features"]),
            classes=tuple(body["output"]["classes"]),
            positive=body["output"]["positive"],
        )


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
