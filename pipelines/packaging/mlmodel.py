"""Reads the MLmodel file of a logged model: which file the ONNX model is, and the types of the columns it takes."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.documents import DocumentError, parse_json, read_yaml
from pipelines.errors import NotServable

FILE = "MLmodel"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
# What slipway.log_model takes, by the names of MLflow's flavors; the libraries' own come first.
CONVERTIBLE = ("lightgbm", "xgboost", "catboost", "sklearn")
_LISTED_CHARS = 300
ADVICE = (
    'log it with mlflow.onnx.log_model(onnx_model, name="onnx", signature=infer_signature(X, y))'
    " and register that model"
)


def read_mlmodel(folder: Path, version: str, *, model: str = "NAME", number: str = "n") -> tuple[str, dict[str, str]]:
    """Return the ONNX file's name and the type of each column of the signature; raise NotServable.

    `model` and `number` stand in what the refusal of a version without ONNX advises. Nothing of an entry is looked at
    before it is known to be a text: an entry can be an alias for itself, many times.
    """
    flavors, signature = _parts(folder / FILE, version)
    flavor = flavors.get("onnx")
    if not isinstance(flavor, dict):
        raise _without_onnx(version, flavors, signature, model, number)
    name = flavor.get("data")
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        shown = repr(name[:80]) if isinstance(name, str) else type(name).__name__
        raise NotServable(f"{version} names {shown} as its model file", next=ADVICE)
    if not (folder / name).is_file():
        raise NotServable(f"{version} has no file {name}", next=ADVICE)
    return name, _columns(signature.get("inputs"), version)


def plain_flavor(flavors: Mapping[str, Any]) -> str | None:
    """Return as what a model was logged whose estimator can be exported, None for any other."""
    return next((name for name in CONVERTIBLE if isinstance(flavors.get(name), dict)), None)


def _without_onnx(
    version: str, flavors: Mapping[str, Any], signature: Mapping[str, Any], model: str, number: str
) -> NotServable:
    """Return the refusal with the call that logs such a model so that it can be served, its names filled in."""
    flavor = plain_flavor(flavors)
    if flavor is None:
        named = ", ".join(sorted(str(name)[:40] for name in flavors)[:5])
        return NotServable(f"{version} has no ONNX model, only {named}", next=ADVICE)
    names = [name for name, _ in _typed(signature.get("inputs")) if name]
    listed = json.dumps(names, ensure_ascii=False)
    rows = f"X_test[{listed}]" if names and len(listed) <= _LISTED_CHARS else "X_test"
    task, which = _task(flavors[flavor], signature)
    call = f'slipway.log_model(model, {rows}, y_test, task="{task}", name="{model}")'
    return NotServable(
        f"{version} has no ONNX model: it was logged as {flavor}",
        next=f"where it is fitted, add: import slipway; {call} with the rows that it was not fitted on{which};"
        f' or have it converted in a container (TARGET=docker): "make model-convert VERSION={number}"',
    )


def _task(flavor: Mapping[str, Any], signature: Mapping[str, Any]) -> tuple[str, str]:
    """Return the task that the model most likely has, and what to say where that is not certain."""
    named = (flavor.get(key) for key in ("model_class", "model_type"))
    kind = next((text.rpartition(".")[2] for text in named if isinstance(text, str)), "")
    kinds = [kind for _, kind in _typed(signature.get("outputs"))]
    if kind.endswith("Regressor") or (kinds in (["double"], ["float"]) and not kind.endswith("Classifier")):
        return "regression", ""
    return "binary", ' (task="multiclass" for more than two labels)'


def _typed(columns: Any) -> Iterator[tuple[str, str]]:
    """Yield names and types of what of a signature can be understood; of tensors, only the types."""
    try:
        listed = parse_json(columns) if isinstance(columns, str) else None
    except DocumentError:
        return
    for column in listed if isinstance(listed, list) else ():
        tensor = column.get("tensor-spec") if isinstance(column, dict) else None
        if isinstance(column, dict) and all(isinstance(column.get(key), str) for key in ("name", "type")):
            yield column["name"], column["type"]
        elif isinstance(column, dict) and isinstance(column.get("type"), str) and not tensor:
            yield "", column["type"]
        elif isinstance(tensor, dict) and isinstance(tensor.get("dtype"), str):
            yield "", tensor["dtype"].replace("float64", "double").replace("float32", "float")


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
