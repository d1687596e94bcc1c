"""Gate: the share of right predictions on the frozen evaluation set."""

import numpy as np
from scipy import stats

from pipelines.domain.verdict import GateResult, Verdict


def measure_accuracy(predicted: np.ndarray, actual: np.ndarray, *, minimum: float) -> GateResult:
    """Judge labels (n,) against the true ones (n,), both as text."""
    return judge_accuracy(int(np.sum(predicted == actual)), len(actual), minimum=minimum)


def judge_accuracy(right: int, n: int, *, minimum: float) -> GateResult:
    """Judge the point estimate; the interval shown is Wilson's at 95 % (Wilson 1927)."""
    if n == 0:
        return GateResult("accuracy", Verdict.INCONCLUSIVE, "INCONCLUSIVE: accuracy: no evaluation rows")
    accuracy = right / n
    bounds = stats.binomtest(right, n).proportion_ci(confidence_level=0.95, method="wilson")
    interval = (float(bounds.low), float(bounds.high))
    good = accuracy >= minimum
    verdict = Verdict.PASSED if good else Verdict.FAILED
    message = f"PASS accuracy={accuracy:.4f} >= {minimum:g}" if good else f"FAIL: accuracy={accuracy:.4f} < {minimum:g}"
    return GateResult("accuracy", verdict, message, observed=accuracy, interval=interval, limit=minimum)
