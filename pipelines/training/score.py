"""Measure the trained model on rows that no fitting saw, and that its ONNX form answers the same."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.pipeline import Pipeline

from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import OnnxModel, Scores
from pipelines.packaging.snapshot import Snapshot, read_snapshot, write_table
from pipelines.training.advice import advice, named
from pipelines.training.estimators import probabilities_of
from pipelines.training.train import as_served, load_trained
from pipelines.training.workspace import Workspace, report, run_stage

TOLERANCE = 1e-5


def score(workspace: Workspace) -> None:
    """Write the predictions and metrics of a working tree's model on the evaluation snapshot."""
    missing = [path.name for path in (workspace.sklearn_model, workspace.onnx_model) if not path.is_file()]
    if missing:
        raise UsageError(f"not trained yet: {', '.join(missing)} missing", next='run "dvc repro"')
    evaluation = read_snapshot(workspace.evaluation)
    pipeline = load_trained(workspace.sklearn_model.read_bytes())
    positive_index = evaluation.description.classes.index(evaluation.description.positive)
    try:
        predictions = predict(pipeline, evaluation)
        onnx = OnnxModel.load(workspace.onnx_model)
        scores = onnx.score(evaluation.features, positive_index=positive_index)
        difference = largest_difference(predictions, scores)
    except NotServable as error:
        raise NotServable(f"{named(pipeline)}: {error.message}", next=advice(pipeline)) from error
    metrics = {**measure(evaluation, predictions), "onnx_max_abs_difference": difference}
    write_table(workspace.predictions, pa.Table.from_pandas(predictions, preserve_index=False))
    workspace.metrics.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    report(json.dumps(metrics, sort_keys=True))


def predict(pipeline: Pipeline, rows: Snapshot) -> pd.DataFrame:
    """Return scikit-learn's `probability` of the positive class and `label` for each row."""
    probabilities = probabilities_of(pipeline, as_served(rows.features, rows.description))
    # A model of numbered labels has the same classes in the same order.
    labels = np.array(rows.description.classes, dtype=object)[np.argmax(probabilities, axis=1)]
    positive = rows.description.classes.index(rows.description.positive)
    return pd.DataFrame({"probability": probabilities[:, positive], "label": labels})


def measure(rows: Snapshot, predictions: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of `predictions` on `rows`; those of two classes are of the positive one."""
    truth = rows.target.to_numpy(dtype=object)
    is_positive = truth == rows.description.positive
    said_positive = predictions["label"].to_numpy(dtype=object) == rows.description.positive
    probability = predictions["probability"].to_numpy()
    return {
        "accuracy": float(accuracy_score(truth, predictions["label"].to_numpy(dtype=object))),
        "roc_auc": float(roc_auc_score(is_positive, probability)),
        "average_precision": float(average_precision_score(is_positive, probability)),
        "brier_score": float(brier_score_loss(is_positive, probability)),
        "f1": float(f1_score(is_positive, said_positive, zero_division=0.0)),
        "precision": float(precision_score(is_positive, said_positive, zero_division=0.0)),
        "recall": float(recall_score(is_positive, said_positive, zero_division=0.0)),
        "evaluation_rows": float(len(rows.frame)),
    }


def largest_difference(predictions: pd.DataFrame, scores: Scores) -> float:
    """Return the largest absolute difference of P(positive) between scikit-learn and ONNX.

    Raises NotServable when it is above 1e-5 or a label differs: another model than the trained one would
    be served.
    """
    difference = float(np.max(np.abs(predictions["probability"].to_numpy() - scores.probabilities)))
    differing = int(np.sum(predictions["label"].to_numpy(dtype=object) != scores.labels))
    # Written so that NaN is refused too.
    if differing or not difference <= TOLERANCE:
        raise NotServable(
            f"the ONNX export answers {differing} of {len(predictions)} evaluation rows with another label"
            f" and differs by up to {difference:.2e} in probability (allowed: {TOLERANCE:g})",
        )
    return difference


if __name__ == "__main__":
    raise SystemExit(run_stage(score))
