"""Gate: the share of right predictions on the frozen evaluation set."""

import math
import operator
from dataclasses import dataclass
from statistics import NormalDist

from pydantic import Field

from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.offline.world import Offline


class AccuracyLimits(Section):
    """Limit on the share of right predictions on the evaluation set."""

    minimum: float = Field(
        0.78, ge=0, le=1, description="the share of right answers, as measured; its interval is shown"
    )


@dataclass(frozen=True)
class Counts:
    """How many of the rows were answered rightly."""

    right: int
    rows: int


def measure(world: Offline, limits: AccuracyLimits) -> Counts:
    """Count the labels that are the true ones, both as text."""
    labels = world.candidate.scores.labels
    assert labels is not None
    return Counts(sum(map(operator.eq, labels, world.actual)), len(world.actual))


def judge(counts: Counts, limits: AccuracyLimits) -> list[GateResult]:
    """Judge the point estimate; the interval shown is Wilson's at 95 % (Wilson 1927)."""
    if counts.rows == 0:
        return [GateResult("accuracy", Verdict.INCONCLUSIVE, "INCONCLUSIVE: accuracy: no evaluation rows")]
    accuracy, minimum = counts.right / counts.rows, limits.minimum
    good = accuracy >= minimum
    verdict = Verdict.PASSED if good else Verdict.FAILED
    message = f"PASS accuracy={accuracy:.4f} >= {minimum:g}" if good else f"FAIL: accuracy={accuracy:.4f} < {minimum:g}"
    return [GateResult("accuracy", verdict, message, observed=accuracy, interval=wilson(counts), limit=minimum)]


def wilson(counts: Counts) -> tuple[float, float]:
    """Return Wilson's interval of the share of right answers, without the seconds that SciPy's takes to import."""
    right, rows, z = counts.right, counts.rows, NormalDist().inv_cdf(0.975)
    middle, spread = 2 * right + z * z, z * math.sqrt(4 * right * (rows - right) / rows + z * z)
    low, high = ((middle + side) / (2 * (rows + z * z)) for side in (-spread, spread))
    return low if right else 0.0, high if right < rows else 1.0


ACCURACY = Gate(
    name="accuracy",
    description="The share of right predictions on the evaluation set is at least the minimum. The point estimate is"
    " judged; its 95 % interval is shown beside it.",
    limits=AccuracyLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.CLASSES}),
    unless="a regression has no right and wrong answers",
    overridable=True,
)
