"""A trained working tree as one MLflow run with its data, metrics and models, and as a registered version."""

import json
import re
import subprocess
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import onnx
import skops.io
from mlflow.data.pandas_dataset import from_pandas
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from pipelines.adapters.mlflow.errors import bound_calls, mlflow_calls
from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.errors import RegistryUnavailable
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.training.model_file import ModelFile
from pipelines.training.parts import libraries
from pipelines.training.train import load_trained
from pipelines.training.workspace import Workspace, report

_TYPES = {
    FeatureType.INTEGER: DataType.long,
    FeatureType.NUMBER: DataType.double,
    FeatureType.BOOLEAN: DataType.boolean,
    FeatureType.CATEGORY: DataType.string,
    FeatureType.TEXT: DataType.string,
    FeatureType.DATE: DataType.datetime,
    FeatureType.DATETIME: DataType.datetime,
}
# MLflow takes slashes too, but not everywhere in a name, and shows them as folders.
_NOT_IN_A_NAME = re.compile(r"[^\w.\- ]")
# MLflow's own limit is 250.
_NAME_LENGTH = 240
_CALL_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 60


def register(workspace: Workspace, tracking_uri: str, git_root: Path) -> dict[str, Any]:
    """Log and register what the stages left in `workspace`; return run id, accuracy (or a regression's R2), version."""
    model = ModelFile.load(workspace.model_file)
    metrics: dict[str, float] = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    bound_calls(timeout_s=_CALL_TIMEOUT_S, retries=1)
    # MLflow warns of every integer column, which here are declared so, and of its own way to read a path.
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
    with mlflow_calls(tracking_uri, subject=f"registration of {model.name}"):
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.set_experiment(model.name)
        with mlflow.start_run(tags=_git_tags(git_root)) as run:
            report(f"run {run.info.run_id}")
            mlflow.log_params(parameters(model.flattened()))
            mlflow.log_metrics(metrics)
            description = _log_datasets(workspace, model)
            for path in (workspace.evaluation, workspace.predictions, workspace.model_file):
                mlflow.log_artifact(str(path), "slipway")
            uri = _log_models(workspace, description)
        registered = mlflow.register_model(uri, model.name, await_registration_for=_READY_TIMEOUT_S)
    if registered.status != "READY":
        raise RegistryUnavailable(
            f"version {registered.version} of {model.name} is {registered.status}",
            next="look at the log of the model registry",
        )
    quality = "r2" if description.task is Task.REGRESSION else "accuracy"
    return {
        "run_id": str(run.info.run_id),
        quality: round(metrics[quality], 4),
        "model_version": str(registered.version),
    }


def parameters(settings: Mapping[str, str]) -> dict[str, str]:
    """Return `settings` under names that MLflow takes, of letters, digits, `_`, `-`, `.` and blanks, all different.

    Any other character becomes `_`; of names that are then the same, the second gets ` 2` at its end.
    """
    named: dict[str, str] = {}
    for key, value in settings.items():
        plain = name = _NOT_IN_A_NAME.sub("_", key)[:_NAME_LENGTH]
        number = 1
        while name in named:
            number += 1
            name = f"{plain} {number}"
        named[name] = value
    return named


def _log_datasets(workspace: Workspace, model: ModelFile) -> SnapshotDescription:
    mlflow.set_tag("slipway.dataset.source", digest_of_file(workspace.root / model.source.path))
    for name, path in (
        ("train", workspace.train),
        ("evaluation", workspace.evaluation),
        ("reference", workspace.reference),
    ):
        snapshot = read_snapshot(path)
        mlflow.log_input(_dataset(snapshot, name, model), context=name)
        # MLflow keeps at most 36 characters of a data set's digest.
        mlflow.set_tag(f"slipway.dataset.{name}", snapshot.digest)
        report(f"data set {name}: {len(snapshot.frame)} rows, {snapshot.digest}")
    return snapshot.description


def _dataset(snapshot: Snapshot, name: str, model: ModelFile) -> Any:
    return from_pandas(
        snapshot.frame,
        source=model.source.path,
        targets=model.target,
        name=f"{model.name}-{name}",
        digest=snapshot.digest.removeprefix("sha256:")[:32],
    )


def _log_models(workspace: Workspace, description: SnapshotDescription) -> str:
    """Log the scikit-learn and the ONNX model; return the address of the latter."""
    inputs = Schema([_column(feature) for feature in description.features])
    regresses = description.task is Task.REGRESSION
    answer = ColSpec(DataType.double, "value") if regresses else ColSpec(DataType.string, "label")
    beside = [] if regresses else [ColSpec(Array(DataType.float), "probabilities")]
    trained = workspace.sklearn_model.read_bytes()
    pipeline = load_trained(trained)
    mlflow.sklearn.log_model(
        pipeline,
        name="sklearn",
        signature=ModelSignature(inputs, Schema([answer])),
        serialization_format="skops",
        skops_trusted_types=skops.io.get_untrusted_types(data=trained),
        pip_requirements=_pinned("scikit-learn", "skops", "numpy", "pandas", *_distributions(libraries(pipeline))),
    )
    report("logged the scikit-learn model")
    logged = mlflow.onnx.log_model(
        onnx.load(str(workspace.onnx_model)),
        name="onnx",
        signature=ModelSignature(inputs, Schema([answer, *beside])),
        pip_requirements=_pinned("onnx", "onnxruntime", "numpy"),
        # Packaging takes one file, and refuses models that point at others.
        save_as_external_data=False,
    )
    report("logged the ONNX model")
    return str(logged.model_uri)


def _column(feature: Feature) -> ColSpec:
    # What may be missing is no whole number to pandas.
    kind = DataType.double if feature.nullable and feature.type is FeatureType.INTEGER else _TYPES[feature.type]
    return ColSpec(kind, feature.name, required=not feature.nullable)


def _distributions(modules: Iterable[str]) -> list[str]:
    known = packages_distributions()
    return [known[module][0] for module in modules]


def _pinned(*packages: str) -> list[str]:
    return [f"{name}=={installed(name)}" for name in packages]


def _git_tags(root: Path) -> dict[str, str]:
    """Return MLflow's own tag for the commit, and whether the tree differs from it; empty outside of git."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {}
    dirty = _git(root, "status", "--porcelain") != ""
    return {"mlflow.source.git.commit": commit, "slipway.git_dirty": str(dirty).lower()}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30.0, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
