"""Gate: the candidate is not worse than the champion on the same evaluation rows.

Non-inferiority of ROC AUC: a paired bootstrap keeps what both models find hard together.
"""

import numpy as np

from pipelines.domain.verdict import GateResult, Verdict

RESAMPLES = 2000
SEED = 20_240_501


def measure_comparison(
    candidate: np.ndarray, champion: np.ndarray, positive: np.ndarray, *, margin: float
) -> GateResult:
    """Judge P(positive) of both models, each (n,), against the truth (n,) as booleans."""
    if positive.all() or not positive.any():
        message = "INCONCLUSIVE: comparison: the evaluation set has one class only"
        return GateResult("comparison", Verdict.INCONCLUSIVE, message)
    if not (np.isfinite(candidate).all() and np.isfinite(champion).all()):
        message = "ERROR: comparison: a probability is not a finite number"
        return GateResult("comparison", Verdict.ERROR, message)
    observed = auc(candidate, positive) - auc(champion, positive)
    generator = np.random.default_rng(SEED)
    differences: list[float] = []
    while len(differences) < RESAMPLES:
        rows = generator.integers(0, len(positive), len(positive))
        truth = positive[rows]
        if truth.any() and not truth.all():
            differences.append(auc(candidate[rows], truth) - auc(champion[rows], truth))
    lower, upper = np.quantile(differences, [0.05, 0.95])
    return judge_comparison(observed, (float(lower), float(upper)), margin=margin)


def judge_comparison(observed: float, interval: tuple[float, float], *, margin: float) -> GateResult:
    """Judge the one-sided 95 % bounds of AUC(candidate) - AUC(champion) against `-margin`."""
    lower, upper = interval
    shown = f"comparison={observed:+.4f} AUC against production, one-sided 95 % bounds {lower:+.4f} and {upper:+.4f}"
    if lower > -margin:
        verdict, message = Verdict.PASSED, f"PASS {shown}, margin {margin:g}"
    elif upper < -margin:
        verdict, message = Verdict.FAILED, f"FAIL: comparison={observed:.4f} < {-margin:g} ({shown})"
    else:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {shown}, margin {margin:g}"
    return GateResult("comparison", verdict, message, observed=observed, interval=interval, limit=-margin)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the ROC AUC as the Mann-Whitney statistic with midranks for ties (Hanley & McNeil 1982)."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ends = np.r_[starts[1:], len(ranked)]
    midranks = np.repeat((starts + ends + 1) / 2, ends - starts)
    n_positive = int(positive.sum())
    rank_sum = float(midranks[positive[order]].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(positive) - n_positive))
