"""A trained working tree as one MLflow run with its data, metrics and models, and as a registered version."""

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import mlflow
import skops.io
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.git_utils import get_git_branch, get_git_repo_url

from pipelines.adapters.mlflow.errors import bound_calls, mlflow_calls
from pipelines.adapters.mlflow.served_flavor import log_served, pinned
from pipelines.adapters.mlflow.signature import signature_of
from pipelines.domain.description import Task
from pipelines.errors import RegistryUnavailable, UsageError
from pipelines.packaging.converted import PREDICTIONS_FILE, ConvertedFolder
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.package import (
    BREAKING_TAG,
    REFERENCE_ARTIFACT,
    REFERENCE_TAG,
    TRAINING_ROWS_ARTIFACT,
    TRAINING_ROWS_TAG,
)
from pipelines.packaging.reading import read_model
from pipelines.packaging.reference import write_reference
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.training.model_file import ModelFile
from pipelines.training.parts import libraries
from pipelines.training.register import Registered, Registration
from pipelines.training.repositories import commit_of, is_dirty
from pipelines.training.train import load_trained
from pipelines.training.workspace import Workspace, report

# MLflow takes slashes too, but not everywhere in a name, and shows them as folders.
_NOT_IN_A_NAME = re.compile(r"[^\w.\- ]")
# MLflow's own limit is 250.
_NAME_LENGTH = 240
_CALL_TIMEOUT_S = 30.0
_DATASET_TAG = "slipway.dataset"
_PACKAGES_TAG = "slipway.packages"
_PACKAGES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "skops", "numpy", "pandas", "mlflow")
_READY_TIMEOUT_S = 60


def register(workspace: Workspace, tracking_uri: str, git_root: Path) -> dict[str, Any]:
    """Log and register what the stages left in `workspace`; return run id, accuracy (or a regression's R2), version."""
    model = ModelFile.load(workspace.model_file)
    bound_calls(timeout_s=_CALL_TIMEOUT_S, retries=1)
    what = Registration(
        model=model.name,
        parameters=model.flattened(),
        source=model.source.path,
        source_digest=digest_of_file(workspace.root / model.source.path),
        git_root=git_root,
        breaking=model.schema_change.reason if model.schema_change else None,
        card=model.card.tags,
    )
    registered = register_version(workspace, what, tracking_uri)
    quality = "r2" if model.kind is Task.REGRESSION else "accuracy"
    return {
        "run_id": registered.run_id,
        quality: round(registered.metrics[quality], 4),
        "model_version": registered.version,
    }


def register_version(
    workspace: Workspace, what: Registration, tracking_uri: str, run_id: str | None = None
) -> Registered:
    """Log the files of a workspace, in the run of that id, the active one or a new one, and register its ONNX model.

    Raises UsageError for a run that has logged a version already.
    """
    metrics: dict[str, float] = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    with _quiet(), mlflow_calls(tracking_uri, subject=f"registration of {what.model}"):
        mlflow.set_tracking_uri(tracking_uri)
        with _run(what.model, run_id) as run:
            packages = {_PACKAGES_TAG: " ".join(pinned(*_PACKAGES))}
            mlflow.set_tags({**_git_tags(what.git_root), **packages, **what.card})
            mlflow.log_params(parameters(what.parameters))
            mlflow.log_metrics(metrics)
            description = _log_datasets(workspace, what)
            if what.breaking:
                mlflow.set_tag(BREAKING_TAG, what.breaking)
            for path in (workspace.evaluation, workspace.predictions, workspace.model_file):
                if path.exists():
                    mlflow.log_artifact(str(path), "slipway")
            uri = _log_models(workspace, description)
        registered = mlflow.register_model(uri, what.model, await_registration_for=_READY_TIMEOUT_S)
    _refuse_unready(registered)
    return Registered(what.model, str(registered.version), str(run.info.run_id), metrics)


def register_converted(folder: Path, tracking_uri: str) -> dict[str, Any]:
    """Log and register what a conversion has left in `folder`, unread; return run id and version."""
    what = ConvertedFolder.read(folder)
    bound_calls(timeout_s=_CALL_TIMEOUT_S, retries=1)
    client = MlflowClient(tracking_uri)
    with _quiet(), mlflow_calls(tracking_uri, subject=f"registration of {what.model}"):
        mlflow.set_tracking_uri(tracking_uri)
        with _run(what.model, None) as run:
            run_id = run.info.run_id
            mlflow.set_tags(what.tags)
            mlflow.log_metrics(what.metrics)
            optional = [name for name in (ConvertedFolder.REFERENCE,) if (folder / name).exists()]
            for name in (ConvertedFolder.EVALUATION, PREDICTIONS_FILE, *optional):
                mlflow.log_artifact(str(folder / name), "slipway")
            logged = client.create_logged_model(run.info.experiment_id, name="onnx", source_run_id=run_id)
            client.log_model_artifacts(logged.model_id, str(folder / "model"))
            client.finalize_logged_model(logged.model_id, "READY")
        registered = mlflow.register_model(logged.model_uri, what.model, await_registration_for=_READY_TIMEOUT_S)
    _refuse_unready(registered)
    return {"run_id": str(run_id), "model_version": str(registered.version)}


def log_evaluation(snapshot: Path, model: str, tracking_uri: str, run_id: str | None = None) -> str:
    """Log an evaluation set on a run, chosen as `register_version` does; return the run's id."""
    with _quiet(), mlflow_calls(tracking_uri, subject=f"evaluation set of {model}"):
        mlflow.set_tracking_uri(tracking_uri)
        with _run(model, run_id) as run:
            mlflow.set_tag(f"{_DATASET_TAG}.evaluation", digest_of_file(snapshot))
            mlflow.log_artifact(str(snapshot), "slipway")
    return str(run.info.run_id)


def log_own_set(snapshot: Path, model: str, tracking_uri: str) -> dict[str, Any]:
    """Log an evaluation set of a model that is no version's, in a run of its own; return the run's id."""
    bound_calls(timeout_s=_CALL_TIMEOUT_S, retries=1)
    return {"run_id": log_evaluation(snapshot, model, tracking_uri)}


def tracking_address(given: str | None) -> str:
    """Return the address of the tracking server: the one given, or the one that MLflow uses in this process."""
    return (given or mlflow.get_tracking_uri()).rstrip("/")


def _refuse_unready(registered: ModelVersion) -> None:
    if registered.status != "READY":
        raise RegistryUnavailable(
            f"version {registered.version} of {registered.name} is {registered.status}",
            next="look at the log of the model registry",
        )


@contextmanager
def _run(model: str, run_id: str | None) -> Iterator[mlflow.ActiveRun]:
    """Log into a run: the one of that id, the active one, or a new one in the experiment of the model's name."""
    active = mlflow.active_run()
    if active and run_id not in (None, active.info.run_id):
        raise UsageError(f"run {active.info.run_id} is active, and {run_id} is named", next="end the active run first")
    chosen = run_id or (active.info.run_id if active else None)
    experiment = None
    if chosen:
        known = mlflow.get_run(chosen)
        experiment = known.info.experiment_id
        if f"{_DATASET_TAG}.evaluation" in known.data.tags:
            raise UsageError(
                f"run {chosen} has logged evaluation rows already, which a version of it is judged by",
                next="log it in a run of its own: with mlflow.start_run(): ...",
            )
    if active:
        yield active
    else:
        if chosen:
            # MLflow goes on with a run of the experiment that it is set to, and of no other.
            mlflow.set_experiment(experiment_id=experiment)
        with mlflow.start_run(run_id=chosen, experiment_id=experiment or _experiment(model)) as run:
            report(f"run {run.info.run_id}")
            yield run


def _experiment(name: str) -> str:
    found = mlflow.get_experiment_by_name(name)
    return str(found.experiment_id if found else mlflow.create_experiment(name))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # MLflow warns of every integer column, which here are declared so, and of its own way to read a path.
        warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
        warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
        yield


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


def _log_datasets(workspace: Workspace, what: Registration) -> SnapshotDescription:
    if what.source_digest:
        mlflow.set_tag(f"{_DATASET_TAG}.source", what.source_digest)
    paths = {"train": workspace.train, "evaluation": workspace.evaluation, "reference": workspace.reference}
    for name, path in paths.items():
        if path.exists():
            snapshot = read_snapshot(path)
            mlflow.log_input(_dataset(snapshot, name, what), context=name)
            # MLflow keeps at most 36 characters of a data set's digest.
            mlflow.set_tag(f"{_DATASET_TAG}.{name}", snapshot.digest)
            report(f"data set {name}: {len(snapshot.frame)} rows, {snapshot.digest}")
            if name == "train":
                _log_derived(TRAINING_ROWS_ARTIFACT, TRAINING_ROWS_TAG, TrainingRows.of(snapshot).write)
            if name == "reference":
                _log_derived(REFERENCE_ARTIFACT, REFERENCE_TAG, partial(write_reference, snapshot))
    return read_snapshot(workspace.evaluation).description


def _log_derived(artifact: str, tag: str, write: Callable[[Path], str]) -> None:
    """Log what is derived of a snapshot: which rows train, or those that drift of later data is measured against."""
    folder, _, name = artifact.rpartition("/")
    with tempfile.TemporaryDirectory() as place:
        mlflow.set_tag(tag, write(Path(place) / name))
        mlflow.log_artifact(str(Path(place) / name), folder)


def _dataset(snapshot: Snapshot, name: str, what: Registration) -> Any:
    return from_pandas(
        snapshot.frame,
        source=what.source,
        targets=snapshot.description.target,
        name=f"{what.model}-{name}",
        digest=snapshot.digest.removeprefix("sha256:")[:32],
    )


def _log_models(workspace: Workspace, description: SnapshotDescription) -> str:
    """Log the scikit-learn and the ONNX model; return the address of the latter."""
    trained = workspace.sklearn_model.read_bytes()
    pipeline = load_trained(trained)
    mlflow.sklearn.log_model(
        pipeline,
        name="sklearn",
        signature=signature_of(description, probabilities=False),
        serialization_format="skops",
        skops_trusted_types=skops.io.get_untrusted_types(data=trained),
        pip_requirements=pinned("scikit-learn", "skops", "numpy", "pandas", *_distributions(libraries(pipeline))),
    )
    report("logged the scikit-learn model")
    logged = log_served(
        workspace.onnx_model,
        read_model(workspace.onnx_model, description.features, read_snapshot(workspace.evaluation)),
    )
    report("logged the ONNX model")
    return str(logged.model_uri)


def _distributions(modules: Iterable[str]) -> list[str]:
    known = packages_distributions()
    return [known[module][0] for module in modules]


def _git_tags(root: Path) -> dict[str, str]:
    """Return MLflow's own tags for the project's repository, and whether the project differs from its commit.

    MLflow by itself names the repository of the program, which is Slipway's: what the project's own lacks is empty.
    """
    commit, place = commit_of(root), str(root)
    return {
        "mlflow.source.git.commit": commit or "",
        "mlflow.source.git.branch": (commit and get_git_branch(place)) or "",
        "mlflow.source.git.repoURL": (commit and get_git_repo_url(place)) or "",
        **({"slipway.git_dirty": str(is_dirty(root)).lower()} if commit else {}),
    }
