"""The quality of a version on the requests that it was sent, where their labels are known."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.domain.description import Task, label_text
from pipelines.evaluation.gates.offline.rows import wilson
from pipelines.evaluation.gates.quality.metrics import auc, log_loss, macro_auc, mae, r2, rmse
from pipelines.evaluation.gates.quality.shares import Share, mean_share
from pipelines.live.request_files import ID, LABEL, PREDICTION, ROW, SCORES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def quality_of(output: Mapping[str, Any], answers: "pa.Table", labels: "pa.Table") -> dict[str, Any] | None:
    """Return the metrics of a version's task on the answers whose labels are known; None where none is.

    `output` is what this version answers, by its task, classes and positive class. `labels` are texts. `labelled` says
    on how many rows the metrics are. The interval of the accuracy is Wilson's (1927), of 95 %.
    """
    joined = _joined(answers, labels)
    is_number = output["task"] == Task.REGRESSION
    classes = [label_text(each) for each in output["classes"]]
    # A label may be of a version of another task, or of other classes.
    truth = joined[LABEL].map(_number) if is_number else joined[LABEL].where(joined[LABEL].isin(classes))
    joined = joined.assign(**{LABEL: truth})[truth.notna()]
    if joined.empty:
        return None
    metrics = _of_numbers(joined) if is_number else _of_classes(joined, classes, output["positive"])
    finite = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return {"labelled": len(joined), **finite}


def _joined(answers: "pa.Table", labels: "pa.Table") -> "pd.DataFrame":
    """Return the answers whose label is known, each row once, with the label that came last."""
    known = labels.to_pandas().drop_duplicates([ID, ROW], keep="last")
    answered: pd.DataFrame = answers.to_pandas().drop_duplicates([ID, ROW], keep="first")
    return answered.merge(known, on=[ID, ROW], how="inner")


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _of_numbers(joined: "pd.DataFrame") -> dict[str, float | None]:
    truth = joined[LABEL].to_numpy(dtype=float)
    values = joined[PREDICTION].to_numpy(dtype=float)
    return {"rmse": rmse(truth, values), "mae": mae(truth, values), "r2": r2(truth, values)}


def _of_classes(joined: "pd.DataFrame", classes: list[str], positive: Any) -> dict[str, float | None]:
    import numpy as np

    # In the order of their texts, as the scores of several are.
    places = {text: number for number, text in enumerate(sorted(classes))}
    truth = joined[LABEL].map(places).to_numpy()
    predicted = joined[PREDICTION].map(places).to_numpy()
    right = truth == predicted
    low, high = wilson(int(right.sum()), len(right))
    found: dict[str, float | None] = {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": mean_share(Share.F1, predicted, truth, len(places)),
    }
    scores = np.array(joined[SCORES].tolist(), dtype=float)
    if positive is not None:
        is_positive = truth == places[label_text(positive)]
        chances = scores[:, 0]
        if is_positive.any() and not is_positive.all():
            found["auc"] = auc(chances, is_positive)
        found["log_loss"] = log_loss(np.column_stack([1 - chances, chances]), is_positive.astype(int))
    else:
        found["auc"] = macro_auc(scores, truth)
        found["log_loss"] = log_loss(scores, truth)
    return found
