"""Gate: the candidate is not worse than the champion on the same evaluation rows.

Non-inferiority of ROC AUC: a paired bootstrap keeps what both models find hard together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
SEED = 20_240_501


class ComparisonLimits(Section):
    """Non-inferiority margin on ROC AUC against the champion."""

    margin: float = Field(0.01, gt=0, lt=1, description="how much lower than the champion's the ROC AUC may be")


@dataclass(frozen=True)
class Difference:
    """AUC(candidate) - AUC(champion), with its one-sided 95 % bounds."""

    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Unmeasured:
    """Why there is no difference to judge."""

    verdict: Verdict
    why: str


def measure(world: Offline, limits: ComparisonLimits) -> Difference | Unmeasured:
    """Compare both models on the rows of the evaluation set."""
    assert world.champion is not None
    frame = world.snapshot.frame
    missing = [f.name for f in world.champion.description.features if f.name not in frame.columns]
    if missing:
        return Unmeasured(Verdict.INCONCLUSIVE, f"the evaluation set lacks the champion's {', '.join(missing)}")
    positive = world.actual == world.candidate.description.output.positive
    try:
        champion = world.champion.scores
    except NotServable as refusal:
        # Nothing that the candidate is to blame for.
        return Unmeasured(Verdict.ERROR, f"the champion on these rows: {refusal.message}")
    return compare(world.candidate.scores.probabilities, champion.probabilities, positive)


def compare(candidate: "np.ndarray", champion: "np.ndarray", positive: "np.ndarray") -> Difference | Unmeasured:
    """Compare P(positive) of both models, each (n,), by the truth (n,) as booleans."""
    import numpy as np

    if positive.all() or not positive.any():
        return Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set has one class only")
    if not (np.isfinite(candidate).all() and np.isfinite(champion).all()):
        return Unmeasured(Verdict.ERROR, "a probability is not a finite number")
    observed = auc(candidate, positive) - auc(champion, positive)
    generator = np.random.default_rng(SEED)
    differences: list[float] = []
    while len(differences) < RESAMPLES:
        rows = generator.integers(0, len(positive), len(positive))
        truth = positive[rows]
        if truth.any() and not truth.all():
            differences.append(auc(candidate[rows], truth) - auc(champion[rows], truth))
    lower, upper = np.quantile(differences, [0.05, 0.95])
    return Difference(observed, (float(lower), float(upper)))


def judge(found: Difference | Unmeasured, limits: ComparisonLimits) -> list[GateResult]:
    """Judge the one-sided 95 % bounds of the difference against `-margin`."""
    if isinstance(found, Unmeasured):
        return [GateResult("comparison", found.verdict, f"{found.verdict.upper()}: comparison: {found.why}")]
    (lower, upper), observed, margin = found.interval, found.observed, limits.margin
    shown = f"comparison={observed:+.4f} AUC against production, one-sided 95 % bounds {lower:+.4f} and {upper:+.4f}"
    if lower > -margin:
        verdict, message = Verdict.PASSED, f"PASS {shown}, margin {margin:g}"
    elif upper < -margin:
        verdict, message = Verdict.FAILED, f"FAIL: comparison={observed:.4f} < {-margin:g} ({shown})"
    else:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {shown}, margin {margin:g}"
    return [GateResult("comparison", verdict, message, observed=observed, interval=found.interval, limit=-margin)]


def auc(scores: "np.ndarray", positive: "np.ndarray") -> float:
    """Return the ROC AUC as the Mann-Whitney statistic with midranks for ties (Hanley & McNeil 1982)."""
    import numpy as np

    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ends = np.r_[starts[1:], len(ranked)]
    midranks = np.repeat((starts + ends + 1) / 2, ends - starts)
    n_positive = int(positive.sum())
    rank_sum = float(midranks[positive[order]].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(positive) - n_positive))


COMPARISON = Gate(
    name="comparison",
    description="The candidate is not worse than the champion: on the same evaluation rows its ROC AUC is less than the"
    " margin below the champion's. Passed and failed are proven by the one-sided 95 % bounds of a paired bootstrap;"
    " what lies between is inconclusive.",
    limits=ComparisonLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.CHAMPION}),
    unless="no champion yet to compare with",
    overridable=True,
)
