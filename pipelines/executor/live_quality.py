"""The quality of a version on the requests that it was sent, where their labels are known."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.domain.description import Task, label_text
from pipelines.evaluation.gates.offline.rows import wilson
from pipelines.evaluation.gates.quality.metrics import auc, log_loss, macro_auc, mae, r2, rmse
from pipelines.evaluation.gates.quality.shares import Share, mean_share
from pipelines.live.request_files import ID, PREDICTION, ROW, SCORES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def quality_of(output: Mapping[str, Any], answers: "pa.Table", labels: "pa.Table") -> dict[str, Any] | None:
    """Return the metrics of a version's task on the answers whose labels are known; None where none is.

    `output` is what the release answers, by its task, classes and positive class. `labelled` says on how many rows they
    are. The interval of the accuracy is Wilson's (1927), of 95 %.
    """
    joined = _joined(answers, labels)
    if joined.empty:
        return None
    if output["task"] == Task.REGRESSION:
        metrics = _of_numbers(joined)
    else:
        classes = [label_text(each) for each in output["classes"]]
        # What was answered by a version of other classes is not measured with these.
        joined = joined[joined[PREDICTION].isin(classes) & joined["label"].isin(classes)]
        if joined.empty:
            return None
        metrics = _of_classes(joined, classes, output["positive"])
    finite = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return {"labelled": len(joined), **finite}


def _joined(answers: "pa.Table", labels: "pa.Table") -> "pd.DataFrame":
    """Return the answers whose label is known, each row once, with the label that came last."""
    import pyarrow.compute as pc

    known = labels.to_pandas().drop_duplicates([ID, ROW], keep="last")
    among = answers.filter(pc.is_in(answers[ID], value_set=labels[ID].combine_chunks()))
    answered: pd.DataFrame = among.to_pandas().drop_duplicates([ID, ROW], keep="first")
    return answered.merge(known, on=[ID, ROW], how="inner")


def _of_numbers(joined: "pd.DataFrame") -> dict[str, float | None]:
    import pandas as pd

    truth = pd.to_numeric(joined["label"], errors="coerce").to_numpy(dtype=float)
    values = joined[PREDICTION].to_numpy(dtype=float)
    return {"rmse": rmse(truth, values), "mae": mae(truth, values), "r2": r2(truth, values)}


def _of_classes(joined: "pd.DataFrame", classes: list[str], positive: Any) -> dict[str, float | None]:
    import numpy as np

    # In the order of their texts, as the scores of several are.
    places = {text: number for number, text in enumerate(sorted(classes))}
    truth = joined["label"].map(places).to_numpy()
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
