"""Reads a bundle from disk; nothing of it is used before its digest is the released one."""

import hashlib
from pathlib import Path

import msgspec

from app.errors import BundleError
from app.model.description import Description, Dtype, Feature, FeatureType, Task, read_answers, read_description

DESCRIPTION = "bundle.json"
MODEL = "model.onnx"


_DTYPES = {
    FeatureType.INTEGER: {Dtype.FLOAT32, Dtype.FLOAT64, Dtype.INT64},
    FeatureType.NUMBER: {Dtype.FLOAT32, Dtype.FLOAT64},
    FeatureType.BOOLEAN: {Dtype.FLOAT32, Dtype.FLOAT64, Dtype.INT64, Dtype.BOOL},
    FeatureType.CATEGORY: {Dtype.STRING},
    FeatureType.TEXT: {Dtype.STRING},
    FeatureType.DATE: {Dtype.FLOAT32, Dtype.FLOAT64, Dtype.INT64},
    # The seconds of today are more than a float32 can tell apart.
    FeatureType.DATETIME: {Dtype.FLOAT64, Dtype.INT64},
}
# What can say that a value is missing: NaN, or the empty text.
_NULLABLE_DTYPES = {Dtype.FLOAT32, Dtype.FLOAT64, Dtype.STRING}


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
        description = read_description(encoded)
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
    dtypes = {name: each.dtype for each in description.onnx.inputs for name in each.features}
    names = [feature.name for feature in description.features]
    fed = [name for each in description.onnx.inputs for name in each.features]
    if not names or sorted(names) != sorted(fed) or len(set(names)) != len(names):
        raise BundleError(f"features {names} are not the model's columns {fed}, one for one")
    for feature in description.features:
        _check_feature(feature, dtypes[feature.name])
    _check_output(description)
    golden = description.golden
    if not golden.rows or len(golden.rows) != len(golden.expected):
        raise BundleError(f"{len(golden.rows)} golden rows with {len(golden.expected)} answers")
    try:
        read_answers(description)
    except msgspec.ValidationError as error:
        raise BundleError(f"the golden answers are not those of a {description.task} model: {error}") from error


def _check_feature(feature: Feature, dtype: Dtype) -> None:
    if dtype not in _DTYPES[feature.type]:
        raise BundleError(f"feature {feature.name} is {feature.type}, its input {dtype}")
    if feature.nullable and dtype not in _NULLABLE_DTYPES:
        raise BundleError(f"feature {feature.name} is nullable, which its input of {dtype} can't say")
    if (feature.type is FeatureType.CATEGORY) != bool(feature.categories):
        count = len(feature.categories)
        raise BundleError(f"feature {feature.name} is {feature.type} with {count} categories")
    if feature.nullable and "" in feature.categories:
        raise BundleError(f"feature {feature.name} is nullable and has an empty category: nobody could tell them apart")
    if (feature.type is FeatureType.TEXT) != (feature.maximum_length is not None):
        raise BundleError(f"feature {feature.name} is {feature.type} with maximum_length {feature.maximum_length}")


def _check_output(description: Description) -> None:
    output, onnx, task = description.output, description.onnx, description.task
    if task is Task.REGRESSION:
        fits = onnx.value and not (onnx.label or onnx.probabilities or output.classes or output.positive is not None)
    else:
        fits = onnx.label and onnx.probabilities and not onnx.value and len(output.classes) > 1
        # Of one type each, so that neither is 1 the same as true.
        of_type = {type(each) for each in output.classes}
        fits = fits and len(of_type) == 1 and len(set(output.classes)) == len(output.classes)
        found = output.positive in output.classes and type(output.positive) in of_type
        fits = fits and (found if task is Task.BINARY else output.positive is None)
    if not fits:
        raise BundleError(f"classes {list(output.classes)}, positive {output.positive!r}: no outputs of a {task} model")
