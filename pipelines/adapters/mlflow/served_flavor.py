"""Logs an ONNX model so that whoever opens it in MLflow is answered what the service answers.

MLflow's own opener of ONNX models takes one input only. In its place stands `loader.py`, of which a copy is logged; the
ONNX flavor stays as it is. MLflow gets no types of columns: it would convert values before the loader sees them.
"""

import hashlib
import json
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Map

from pipelines.adapters.mlflow import loader
from pipelines.domain.description import Label, Task
from pipelines.packaging.confined import Read

_LABELS = {bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string}


def log_served(model: Path, read: Read) -> ModelInfo:
    """Log an ONNX model, which was read so, in the active run."""
    logged: ModelInfo = Model.log(artifact_path=None, name="onnx", flavor=_Flavor, model=model, read=read)
    return logged


def pinned(*packages: str) -> list[str]:
    """Return the requirements of some packages in the versions that are installed."""
    return [f"{name}=={installed(name)}" for name in packages]


class _Flavor:
    """What `Model.log` asks to write the files of a model."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, model: Path, read: Read, **_: Any) -> None:
        """Write the ONNX model, its loader and its description into the folder `path`."""
        content = Path(loader.__file__).read_bytes()
        # Python keeps one module of a name, and a process may open versions with different loaders.
        name = f"slipway_loader_{hashlib.sha256(content).hexdigest()[:12]}"
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder, f"{name}.py")
            code.write_bytes(content)
            mlflow.onnx.save_model(
                onnx.load(str(model)),
                path,
                mlflow_model=mlflow_model,
                signature=signature_of(read),
                code_paths=[str(code)],
                pip_requirements=pinned("onnx", "onnxruntime", "numpy", "pandas"),
                # Packaging takes one file, and refuses models that point at others.
                save_as_external_data=False,
            )
        described = read.model_dump(mode="json", exclude={"golden"})
        Path(path, loader.DESCRIPTION).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
        mlflow_model.flavors["python_function"]["loader_module"] = name
        mlflow_model.save(str(Path(path, MLMODEL_FILE_NAME)))


def signature_of(read: Read) -> ModelSignature:
    """Return the columns that a model takes, of any type to MLflow, and those that the loader answers."""
    any_type = AnyType()  # type: ignore[no-untyped-call]
    inputs = Schema([ColSpec(any_type, feature.name, required=not feature.nullable) for feature in read.features])
    if read.task is Task.REGRESSION:
        return ModelSignature(inputs, Schema([ColSpec(DataType.double, "prediction")]))
    probabilities = ColSpec(Map(DataType.double), "probabilities")
    if read.output.positive is not None:
        probabilities = ColSpec(DataType.double, "probability")
    return ModelSignature(inputs, Schema([ColSpec(_label_type(read.output.classes), "prediction"), probabilities]))


def _label_type(classes: tuple[Label, ...]) -> DataType:
    (kind,) = {_LABELS[type(each)] for each in classes}
    return kind
