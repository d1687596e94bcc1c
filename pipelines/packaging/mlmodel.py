"""Reads the MLmodel file of a logged model: which file the ONNX model is, and the types of the columns it takes."""

import re
from pathlib import Path
from typing import Any

from pipelines.documents import DocumentError, parse_json, read_yaml
from pipelines.errors import NotServable

FILE = "MLmodel"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
ADVICE = (
    'log it with mlflow.onnx.log_model(onnx_model, name="onnx", signature=infer_signature(X, y))'
    " and register that model"
)


def read_mlmodel(folder: Path, version: str) -> tuple[str, dict[str, str]]:
    """Return the ONNX file's name and the type of each column of the signature; raise NotServable.

    Nothing of an entry is looked at before it is known to be a text: an entry can be an alias for itself, many times.
    """
    flavors, signature = _parts(folder / FILE, version)
    flavor = flavors.get("onnx")
    if not isinstance(flavor, dict):
        raise NotServable(f"{version} has no ONNX model", next=ADVICE)
    name = flavor.get("data")
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        shown = repr(name[:80]) if isinstance(name, str) else type(name).__name__
        raise NotServable(f"{version} names {shown} as its model file", next=ADVICE)
    if not (folder / name).is_file():
        raise NotServable(f"{version} has no file {name}", next=ADVICE)
    return name, _columns(signature.get("inputs"), version)


def _parts(path: Path, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        body = read_yaml(path)
    except DocumentError as error:
        raise _unclear(version, str(error)[:200]) from error
    if not isinstance(body, dict) or not isinstance(body.get("flavors"), dict):
        raise _unclear(version, "it names no flavors")
    signature = body.get("signature") or {}
    if not isinstance(signature, dict):
        raise _unclear(version, "its signature is none")
    return body["flavors"], signature


def _columns(inputs: Any, version: str) -> dict[str, str]:
    if inputs is None or inputs == "":
        raise NotServable(f"{version} has no signature with named columns", next=ADVICE)
    try:
        listed = parse_json(inputs) if isinstance(inputs, str) else None
        columns = {column["name"]: column["type"] for column in listed or ()}
    except (DocumentError, KeyError, TypeError) as error:
        # A signature of tensors has no names.
        raise NotServable(f"{version} has no signature with named columns", next=ADVICE) from error
    if not columns or not all(isinstance(each, str) for pair in columns.items() for each in pair):
        raise NotServable(f"{version} has no signature with named columns", next=ADVICE)
    return columns


def _unclear(version: str, why: str) -> NotServable:
    return NotServable(f"the MLmodel file of {version} can't be understood: {why}", next=ADVICE)
