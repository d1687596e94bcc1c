"""The program of the job that converts a version: it loads an estimator as MLflow does, which runs whatever it holds.

So it is only ever run in a container without network, credentials and rights. What it answers is believed by nobody:
the version that it becomes goes through packaging and all gates as any other.
"""

import base64
import importlib
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import onnx
from mlflow.models import Model, ModelSignature
from sklearn.pipeline import Pipeline

from pipelines.adapters.mlflow.signature import signature_of
from pipelines.documents import DocumentError, read_yaml
from pipelines.domain.description import Task, label_text
from pipelines.errors import NotServable, SlipwayError, UsageError
from pipelines.packaging.confined import EVALUATION, MODEL, answered
from pipelines.packaging.converted import ConversionTask, ConvertedVersion
from pipelines.packaging.mlmodel import FILE, plain_flavor
from pipelines.packaging.snapshot import Snapshot, read_snapshot, table_bytes
from pipelines.training.fitted.estimator import (
    checked_estimator,
    classes_of,
    columns_taken,
    names_known,
    positions_used,
)
from pipelines.training.fitted.version import Converted, converted
from pipelines.training.score import predictions_table

_PINNED = re.compile(r"^(scikit-learn|lightgbm|xgboost|xgboost-cpu|catboost)==(\d+)\.(\d+)", re.MULTILINE)
_OTHER_ROWS = (
    "name a version whose evaluation rows have the columns that it was fitted on: make model-convert VERSION=n ROWS=m"
)
_FROM_THE_NOTEBOOK = "log it where it was fitted, with slipway.log_model: there its own libraries are"


def carry_out(task: bytes, place: Path) -> bytes:
    """Convert the version whose files are in `place`, and return the answer as JSON."""
    asked = ConversionTask.model_validate_json(task)
    return answered(lambda: _convert(asked, place))


def _convert(task: ConversionTask, place: Path) -> ConvertedVersion:
    evaluation = read_snapshot(place / EVALUATION)
    _refuse_other_libraries(place / MODEL, task.version)
    try:
        pipeline = checked_estimator(_loaded(place / MODEL, task.version), evaluation.description.task)
        described, done = _exported(pipeline, evaluation)
    except NotServable:
        raise
    except SlipwayError as refusal:
        # What is the asker's mistake in a notebook is here a fact of the version.
        raise NotServable(f"{task.version} can't be converted: {refusal.message}", next=refusal.next) from refusal
    return ConvertedVersion(
        files={name: base64.b64encode(content).decode() for name, content in _files(described, done).items()},
        predictions=base64.b64encode(table_bytes(predictions_table(done.predictions))).decode(),
        metrics=done.metrics,
    )


def _loaded(folder: Path, version: str) -> Any:
    """Return the estimator, which is of one of the libraries that can be exported."""
    try:
        body = read_yaml(folder / FILE)
        flavors = body["flavors"]
        flavor = plain_flavor(flavors)
    except (DocumentError, KeyError, TypeError, AttributeError) as error:
        raise NotServable(f"the MLmodel file of {version} can't be understood", next=_FROM_THE_NOTEBOOK) from error
    if flavor is None:
        raise NotServable(f"{version} holds {', '.join(sorted(flavors))[:200]}", next=_FROM_THE_NOTEBOOK)
    if flavors[flavor].get("code"):
        raise NotServable(f"{version} brings code of its own, which is not here", next=_FROM_THE_NOTEBOOK)
    try:
        return importlib.import_module(f"mlflow.{flavor}").load_model(str(folder))
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise NotServable(
            f"{version} can't be loaded: {type(error).__name__}: {said}", next=_FROM_THE_NOTEBOOK
        ) from error


def _refuse_other_libraries(folder: Path, version: str) -> None:
    """Raise NotServable where it was fitted by another release of its library: what is loaded may answer otherwise."""
    path = folder / "requirements.txt"
    for name, major, minor in _PINNED.findall(path.read_text(errors="replace") if path.exists() else ""):
        try:
            here = installed("xgboost-cpu" if name == "xgboost" else name)
        except PackageNotFoundError:
            here = "none"
        if here.split(".")[:2] != [major, minor]:
            raise NotServable(
                f"{version} was fitted by {name} {major}.{minor}, and what converts it has {here}",
                next=_FROM_THE_NOTEBOOK,
            )


def _exported(pipeline: Pipeline, evaluation: Snapshot) -> tuple[Snapshot, Converted]:
    """Return the evaluation set described by the features that the estimator looks at, and the conversion."""
    description, rows = evaluation.description, evaluation.features
    # An evaluation set may have more features than this version.
    named = [name for name in names_known(pipeline) if name in rows.columns]
    try:
        taken = columns_taken(pipeline, rows[named] if named else rows, ())
    except UsageError as refusal:
        raise UsageError(refusal.message, next=_OTHER_ROWS) from refusal
    used = positions_used(pipeline, len(taken))
    known = {feature.name: feature for feature in description.features}
    features = tuple(known[taken[position]] for position in used)
    names = {feature.name for feature in features}
    protected = tuple(name for name in description.protected if name in names)
    described = replace(evaluation, description=replace(description, features=features, protected=protected))
    classes = classes_of(pipeline, description.classes) if description.task is not Task.REGRESSION else ()
    answers, held = ({label_text(each) for each in labels} for labels in (classes, description.classes))
    if answers != held:
        raise NotServable(
            f"it answers {', '.join(sorted(answers))}, and the evaluation rows hold {', '.join(sorted(held))}",
            next=_FROM_THE_NOTEBOOK,
        )
    return described, converted(pipeline, rows[taken], described, used, classes)


def _files(evaluation: Snapshot, done: Converted) -> dict[str, bytes]:
    """Return the files that MLflow itself would write of an ONNX model: a job may write nothing larger than a log."""
    signature: ModelSignature = signature_of(evaluation.description)
    model = Model(signature=signature)
    model.add_flavor("onnx", onnx_version=onnx.__version__, data="model.onnx", providers=None, options=None, code=None)
    model.add_flavor("python_function", loader_module="mlflow.onnx", data="model.onnx", env=None)
    pinned = "".join(f"{name}=={installed(name)}\n" for name in ("onnx", "onnxruntime", "numpy"))
    return {"MLmodel": str(model.to_yaml()).encode(), "model.onnx": done.onnx, "requirements.txt": pinned.encode()}
