"""Registers an estimator that was fitted in a notebook as `make candidate` registers those of a project.

Nothing is logged before the estimator has been exported and answers the evaluation rows in ONNX as it does itself.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import SlipwayError, UsageError

if TYPE_CHECKING:
    from pipelines.domain.description import Label


@dataclass(frozen=True)
class LoggedVersion:
    """A registered version: its number, its address for MLflow, the run that logged it, and what to do with it next."""

    model: str
    version: str
    uri: str
    run_id: str
    next: str

    def __str__(self) -> str:
        return f"{self.model} v{self.version} ({self.uri})\nnext: {self.next}"


def log_model(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    task: str,
    name: str,
    positive: "Label | None" = None,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    protected: Sequence[str] = (),
    ids: Sequence[str] = (),
    train: tuple[Any, Any] | None = None,
    source: str | None = None,
    run: Any = None,
    tracking_uri: str | None = None,
) -> LoggedVersion:
    """Export a fitted estimator, compare the export with it, log both, and register it as a version of `name`.

    Args:
        estimator: A fitted classifier with `predict_proba`, or a regressor: a scikit-learn Pipeline with its own
            preprocessing, or an estimator of scikit-learn, LightGBM, XGBoost or CatBoost.
        X: Evaluation rows (n, columns), a DataFrame as the estimator takes it, that it was not fitted on.
        y: What was to be answered (n,).
        task: `binary`, `multiclass` or `regression`.
        name: The registered model.
        positive: Of a binary task, the label whose probability is answered; the one that says yes, or the rarer one.
        features: What the columns' types don't say, in the words of model.yaml: `{"age": {"minimum": 0}}`.
        protected: Features that fairness is judged by.
        ids: Columns that say which row it is, and are no features.
        train: X and y that it was fitted on, whose digest is logged; with `ids`, no evaluation row may be among them.
        source: Where the data is from: a file, whose digest is logged, or any text.
        run: The MLflow run to log in, or its id; without it the active one, or a new one.
        tracking_uri: The installation's MLflow; without it, the one that MLflow uses (MLFLOW_TRACKING_URI).

    Raises:
        pipelines.errors.SlipwayError: What is wrong and, in `next`, what would work; nothing was logged then, unless
            MLflow itself failed (RegistryUnavailable).
    """
    from pipelines.training.fitted.version import Told, checked_task, lay_out
    from pipelines.training.workspace import Workspace
    from pipelines.wiring.register import register_version

    with _advising(), tempfile.TemporaryDirectory() as folder:
        told = Told(name, checked_task(task), positive, features, protected, ids, source)
        address = _address(tracking_uri)
        workspace = Workspace(Path(folder))
        registration = lay_out(workspace, estimator, X, y, told, train=train)
        done = register_version(workspace, registration, address, _run_id(run))
    return LoggedVersion(
        model=name,
        version=done.version,
        uri=f"models:/{name}/{done.version}",
        run_id=done.run_id,
        next=f'evaluate it into staging: "slipway deploy-staging --version {done.version}"'
        f" (make deploy-staging VERSION={done.version})",
    )


def log_evaluation(
    X: Any,
    y: Any,
    *,
    task: str,
    name: str,
    positive: "Label | None" = None,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    protected: Sequence[str] = (),
    run: Any = None,
    tracking_uri: str | None = None,
) -> str:
    """Log evaluation rows on a run whose ONNX model somebody logs with MLflow itself; return the run's id.

    `X` has the columns of that model's signature. The arguments are those of `log_model`.
    """
    from pipelines.training.fitted.version import Told, checked_task, lay_out_rows
    from pipelines.training.workspace import Workspace
    from pipelines.wiring.register import log_evaluation as log_rows

    with _advising(), tempfile.TemporaryDirectory() as folder:
        told = Told(name, checked_task(task), positive, features, protected)
        address = _address(tracking_uri)
        workspace = Workspace(Path(folder))
        lay_out_rows(workspace, X, y, told)
        return log_rows(workspace.evaluation, name, address, _run_id(run))


@contextmanager
def _advising() -> Iterator[None]:
    """Let what Python shows of a refusal end with what to do about it."""
    try:
        yield
    except SlipwayError as refusal:
        if refusal.next:
            refusal.add_note(f"next: {refusal.next}")
        raise


def _address(given: str | None) -> str:
    """Return the address of an MLflow that answers."""
    from pipelines.training.register import reach
    from pipelines.wiring.register import tracking_address

    address = tracking_address(given)
    if not address.startswith(("http://", "https://")):
        raise UsageError(
            f"MLflow is set to {address!r}, which is no server",
            next="set MLFLOW_TRACKING_URI, or tracking_uri, to the installation's MLflow, such as http://127.0.0.1:5000",
        )
    reach(address)
    return address


def _run_id(run: Any) -> str | None:
    return None if run is None else str(run if isinstance(run, str) else run.info.run_id)
