"""Reads a bundle from disk; nothing of it is used before its digest is the released one."""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.errors import BundleError

DESCRIPTION = "bundle.json"
MODEL = "model.onnx"


class FeatureType(StrEnum):
    """What a request may carry in a feature."""

    INTEGER = "integer"
    NUMBER = "number"
    CATEGORY = "category"


class Dtype(StrEnum):
    """Element type of an ONNX input."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT64 = "int64"
    STRING = "string"


_DTYPES = {
    FeatureType.INTEGER: {Dtype.FLOAT32, Dtype.FLOAT64, Dtype.INT64},
    FeatureType.NUMBER: {Dtype.FLOAT32, Dtype.FLOAT64},
    FeatureType.CATEGORY: {Dtype.STRING},
}


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values seen in the data; informs only."""

    minimum: float
    maximum: float


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of a request; values outside `minimum` and `maximum` are refused, both included."""

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    observed: Range | None = None
    categories: tuple[str, ...] = ()


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is predicted; `classes` are the label values as text."""

    target: str
    classes: tuple[str, ...]
    positive: str


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ONNX input of shape [N, 1]."""

    name: str
    dtype: Dtype


class Onnx(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names in the ONNX graph; `positive_index` is the column of P(positive)."""

    inputs: tuple[Input, ...]
    label: str
    probabilities: str
    positive_index: int


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is answered for a row."""

    prediction: Annotated[str, Meta(description="The predicted class.")]
    probability: Annotated[float, Meta(description="P(positive class).")]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows with the answers they had at packaging; `tolerance` is on the probability."""

    rows: tuple[dict[str, Any], ...]
    expected: tuple[Answer, ...]
    tolerance: float


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of bundle.json."""

    schema_version: Literal[1]
    model: str
    features: tuple[Feature, ...]
    output: Output
    onnx: Onnx
    golden: Golden
    provenance: dict[str, Any]
    files: dict[str, str]


class Bundle(msgspec.Struct, frozen=True):
    """A bundle whose digest and files have been checked; `content` is the ONNX model."""

    digest: str
    description: Description
    content: bytes


def read_bundle(directory: Path, *, digest: str) -> Bundle:
    """Return the bundle in `directory`; raise BundleError unless it is the one with `digest`, whole."""
    encoded = _read(directory / DESCRIPTION)
    _check_digest(DESCRIPTION, encoded, digest)
    try:
        description = msgspec.json.decode(encoded, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{DESCRIPTION} of {digest} is not understood: {error}") from error
    _check_names(description.files)
    _check_schema(description)
    # Checked and loaded are the same bytes: the file may be swapped at any time.
    contents = {name: _read(directory / name) for name in description.files}
    for name, content in contents.items():
        _check_digest(name, content, description.files[name])
    return Bundle(digest, description, contents[MODEL])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _check_digest(name: str, content: bytes, expected: str) -> None:
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"digest mismatch of {name}, expected {expected}, got {found}")


def _check_names(files: dict[str, str]) -> None:
    listed = set(files)
    reserved = {"", ".", "..", DESCRIPTION}
    odd = sorted(name for name in listed if name in reserved or name != Path(name).name or "\\" in name)
    if odd:
        raise BundleError(f"file names that are not plain: {', '.join(odd)}")
    if MODEL not in listed:
        raise BundleError(f"{DESCRIPTION} does not list {MODEL}")


def _check_schema(description: Description) -> None:
    dtypes = {each.name: each.dtype for each in description.onnx.inputs}
    names = [feature.name for feature in description.features]
    if not names or len(names) != len(description.onnx.inputs) or sorted(names) != sorted(dtypes):
        raise BundleError(f"features {names} are not the model's inputs {list(dtypes)}, one for one")
    for feature in description.features:
        if dtypes[feature.name] not in _DTYPES[feature.type]:
            raise BundleError(f"feature {feature.name} is {feature.type}, its input {dtypes[feature.name]}")
        if (feature.type is FeatureType.CATEGORY) != bool(feature.categories):
            count = len(feature.categories)
            raise BundleError(f"feature {feature.name} is {feature.type} with {count} categories")
    output, golden, index = description.output, description.golden, description.onnx.positive_index
    if dict(enumerate(output.classes)).get(index) != output.positive:
        raise BundleError(f"class {index} of {output.classes} is not {output.positive}")
    if not golden.rows or len(golden.rows) != len(golden.expected):
        raise BundleError(f"{len(golden.rows)} golden rows with {len(golden.expected)} answers")
