"""Measure the trained model on rows that no fitting saw, and that its ONNX form answers the same."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.pipeline import Pipeline

from pipelines.domain.description import Task, label_text
from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import OnnxModel, Scores, ServedModel
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot, write_table
from pipelines.training.advice import advice, named
from pipelines.training.estimators import probabilities_of, values_of
from pipelines.training.train import as_served, load_trained
from pipelines.training.workspace import Workspace, report, run_stage

TOLERANCE = 1e-5
# So many evaluation rows are asked with each feature missing that may be.
_GAP_ROWS = 100
_FILLED = (
    "put SimpleImputer before what takes no missing values in ONNX, take gradient boosting, or have the feature never"
    " missing (nullable: false)"
)


def score(workspace: Workspace) -> None:
    """Write the predictions and metrics of a working tree's model on the evaluation snapshot."""
    missing = [path.name for path in (workspace.sklearn_model, workspace.onnx_model) if not path.is_file()]
    if missing:
        raise UsageError(f"not trained yet: {', '.join(missing)} missing", next='run "dvc repro"')
    evaluation = read_snapshot(workspace.evaluation)
    pipeline = load_trained(workspace.sklearn_model.read_bytes())
    # A model of numbered labels has the same classes in the same order.
    classes = tuple(map(label_text, evaluation.description.classes))
    try:
        given = as_served(evaluation.features, evaluation.description)
        predictions = predict(pipeline, given, evaluation.description, classes)
        metrics = compared(workspace.onnx_model.read_bytes(), evaluation, predictions)
    except NotServable as error:
        raise NotServable(f"{named(pipeline)}: {error.message}", next=advice(pipeline)) from error

    def answers(_: str, rows: pd.DataFrame) -> pd.DataFrame:
        return predict(pipeline, as_served(rows, evaluation.description), evaluation.description, classes)

    refuse_other_gaps(workspace.onnx_model.read_bytes(), evaluation, answers, what=named(pipeline))
    write_measured(workspace, predictions, metrics)


def compared(content: bytes, evaluation: Snapshot, predictions: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of the trained model's predictions; raise NotServable where its ONNX form differs."""
    description = evaluation.description
    served = ServedModel.wired(OnnxModel.read(content, "model.onnx"), description.features)
    difference = largest_difference(
        predictions, served.score(evaluation.features), description, order=served.model.classes
    )
    return {**measure(evaluation, predictions), "onnx_max_abs_difference": difference}


def refuse_other_gaps(
    content: bytes, evaluation: Snapshot, answers: Callable[[str, pd.DataFrame], pd.DataFrame], *, what: str
) -> None:
    """Raise NotServable where a trained model and its ONNX form differ once a feature is missing that may be.

    The evaluation rows need not hold such a row, and clients send it. `answers` returns the trained model's
    predictions of some of those rows, in which the feature that it is given the name of is missing. The model is called
    `what` in a refusal.
    """
    description = evaluation.description
    nullable = [feature.name for feature in description.features if feature.nullable]
    if not nullable:
        return
    served = ServedModel.wired(OnnxModel.read(content, "model.onnx"), description.features)
    features = evaluation.features
    some = features.iloc[np.unique(np.linspace(0, len(features) - 1, _GAP_ROWS).astype(np.int64))]
    for name in nullable:
        rows = some.copy()
        rows[name] = some[name].mask(np.ones(len(some), dtype=bool))
        try:
            predictions = answers(name, rows)
            largest_difference(predictions, served.score(rows), description, order=served.model.classes)
        except NotServable as error:
            raise NotServable(f"{what}: with {name!r} missing, {error.message}", next=_FILLED) from error


def write_measured(workspace: Workspace, predictions: pd.DataFrame, metrics: dict[str, float]) -> None:
    """Write predictions and metrics into a workspace."""
    write_table(workspace.predictions, predictions_table(predictions))
    workspace.metrics.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    report(json.dumps(metrics, sort_keys=True))


def predictions_table(predictions: pd.DataFrame) -> pa.Table:
    """Return predictions as they are kept."""
    return pa.Table.from_pandas(predictions, preserve_index=False)


def predict(
    pipeline: Pipeline, rows: pd.DataFrame, description: SnapshotDescription, classes: tuple[str, ...]
) -> pd.DataFrame:
    """Return what the trained model answers to each of `rows`, which are as it takes them.

    That is `label` with `probability` of the positive class, or `probability:CLASS` of each, or `value`. `classes` are
    the texts of the model's own, in its order.
    """
    if description.task is Task.REGRESSION:
        return pd.DataFrame({"value": values_of(pipeline, rows)})
    probabilities = probabilities_of(pipeline, rows)
    known = list(classes)
    columns = {name: probabilities[:, known.index(text)] for name, text in probability_columns(description).items()}
    return pd.DataFrame({**columns, "label": np.array(known, dtype=object)[np.argmax(probabilities, axis=1)]})


def probability_columns(description: SnapshotDescription) -> dict[str, str]:
    """Return the columns of a classifier's predictions, and the class that each is the probability of, as text."""
    if description.positive is not None:
        return {"probability": label_text(description.positive)}
    return {f"probability:{text}": text for text in map(label_text, description.classes)}


def measure(rows: Snapshot, predictions: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of `predictions` on `rows`, as the task has them; those of two classes are of the positive."""
    description, truth = rows.description, rows.target.to_numpy()
    if description.task is Task.REGRESSION:
        metrics = _of_values(truth, predictions["value"].to_numpy())
    else:
        labels = predictions["label"].to_numpy(dtype=object)
        columns = probability_columns(description)
        probabilities = predictions[list(columns)].to_numpy()
        metrics = {"accuracy": accuracy_score(truth, labels)}
        if description.positive is not None:
            positive = label_text(description.positive)
            metrics |= _of_the_positive(truth == positive, labels == positive, probabilities[:, 0])
        else:
            metrics |= _of_classes(truth, labels, probabilities, list(columns.values()))
    return {name: float(value) for name, value in {**metrics, "evaluation_rows": len(rows.frame)}.items()}


def largest_difference(
    predictions: pd.DataFrame, scores: Scores, description: SnapshotDescription, *, order: tuple[str, ...]
) -> float:
    """Return the largest difference of a probability between the trained model and ONNX, or of a value's share.

    `order` is that of the export's columns of probabilities. A value's share is that of the largest one, which is 1 at
    least. Raises NotServable when it is above 1e-5 or a label
    differs: another model than the trained one would be served.
    """
    if scores.labels is None:
        trained, answered = predictions[["value"]].to_numpy(), scores.numbers
        scale, differing = max(1.0, float(np.max(np.abs(trained)))), 0
    else:
        columns = probability_columns(description)
        trained = predictions[list(columns)].to_numpy()
        answered = scores.numbers[:, [order.index(text) for text in columns.values()]]
        other = predictions["label"].to_numpy(dtype=object) != scores.labels
        scale, differing = 1.0, int(np.sum(other & scores.clear))
    difference = float(np.max(np.abs(trained - answered))) / scale
    # Written so that NaN is refused too.
    if differing or not difference <= TOLERANCE:
        raise NotServable(
            f"the ONNX export answers {differing} of {len(predictions)} evaluation rows with another label"
            f" and differs by up to {difference:.2e} (allowed: {TOLERANCE:g})",
        )
    return difference


def _of_the_positive(
    is_positive: NDArray[np.bool_], said_positive: NDArray[np.bool_], probability: NDArray[np.float64]
) -> dict[str, float]:
    return {
        "roc_auc": roc_auc_score(is_positive, probability),
        "average_precision": average_precision_score(is_positive, probability),
        "brier_score": brier_score_loss(is_positive, probability),
        "f1": f1_score(is_positive, said_positive, zero_division=0.0),
        "precision": precision_score(is_positive, said_positive, zero_division=0.0),
        "recall": recall_score(is_positive, said_positive, zero_division=0.0),
    }


def _of_classes(
    truth: NDArray[np.object_], labels: NDArray[np.object_], probabilities: NDArray[np.float64], known: list[str]
) -> dict[str, float]:
    order = sorted(known)
    columns = probabilities[:, [known.index(text) for text in order]]
    # Some converters' sums are off by a float32's rounding, which scikit-learn refuses.
    columns = columns / columns.sum(axis=1, keepdims=True)
    return {
        "macro_f1": f1_score(truth, labels, average="macro", zero_division=0.0),
        "macro_roc_auc": roc_auc_score(truth, columns, multi_class="ovr", labels=order),
        "log_loss": log_loss(truth, columns, labels=order),
    }


def _of_values(truth: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    return {
        "rmse": root_mean_squared_error(truth, values),
        "mae": mean_absolute_error(truth, values),
        "r2": r2_score(truth, values),
    }


if __name__ == "__main__":
    raise SystemExit(run_stage(score))
