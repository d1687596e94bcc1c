"""Gate: the ONNX model that is served answers like the scikit-learn model that was trained."""

import numpy as np
import pandas as pd

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.packaging.onnx_model import Scores


def measure_parity(scores: Scores, trained: pd.DataFrame | None, *, tolerance: float) -> GateResult:
    """Compare ONNX scores with the training's own predictions on the same rows, in the same order.

    `trained` has the columns `label` and `probability`; None means that none were logged.
    """
    if trained is None:
        reason = "no scikit-learn predictions were logged with this version"
        return GateResult("parity", Verdict.NOT_APPLICABLE, reason)
    if len(trained) != len(scores.probabilities):
        message = f"{len(trained)} predictions were logged for {len(scores.probabilities)} evaluation rows"
        return GateResult("parity", Verdict.ERROR, message)
    if len(trained) == 0:
        return GateResult("parity", Verdict.INCONCLUSIVE, "INCONCLUSIVE: parity: no evaluation rows")
    difference = float(np.max(np.abs(scores.probabilities - trained["probability"].to_numpy())))
    other_labels = int(np.sum(scores.labels != trained["label"].astype(str).to_numpy()))
    return judge_parity(difference, other_labels=other_labels, tolerance=tolerance)


def judge_parity(difference: float, *, other_labels: int, tolerance: float) -> GateResult:
    """Pass when no label differs and no probability by more than `tolerance`; NaN fails."""
    good = other_labels == 0 and difference <= tolerance
    message = (
        f"PASS parity: largest difference {difference:.2g} <= {tolerance:g}"
        if good
        else f"FAIL: parity={difference:.4g} > {tolerance:g} ({other_labels} labels differ)"
    )
    verdict = Verdict.PASSED if good else Verdict.FAILED
    return GateResult("parity", verdict, message, observed=difference, limit=tolerance)
