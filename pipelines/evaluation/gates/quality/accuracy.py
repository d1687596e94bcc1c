"""Gate: the share of right predictions on the frozen evaluation set."""

import operator
from dataclasses import dataclass

from pydantic import Field

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, refused_beside, too_few, wilson
from pipelines.evaluation.gates.offline.world import Offline


class AccuracyLimits(Limits):
    """Limit on the share of right predictions on the evaluation set."""

    minimum: float = Field(
        0.78, ge=0, le=1, description="the share of right answers, as measured; its interval is shown"
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Counts:
    """How many of the rows were answered rightly, and how many more the service would not take as requests.

    `finite` is whether all probabilities are numbers.
    """

    right: int
    rows: int
    refused: int = 0
    finite: bool = True


def measure(world: Offline, limits: AccuracyLimits) -> Counts:
    """Count the labels that are the true ones, both as text, on rows that the version was not trained on."""
    import numpy as np

    rows, scores = world.candidate.judged
    assert scores.labels is not None
    right = sum(map(operator.eq, scores.labels, world.actual[rows]))
    return Counts(right, int(rows.sum()), world.candidate.refused, bool(np.isfinite(scores.numbers).all()))


def judge(counts: Counts, limits: AccuracyLimits) -> list[GateResult]:
    """Judge the point estimate; the interval shown is Wilson's at 95 % (Wilson 1927)."""
    beside = refused_beside(counts.refused)
    if not counts.finite:
        why = "ERROR: accuracy: a probability is not a finite number"
        return [GateResult("accuracy", Verdict.ERROR, f"{why}{beside}")]
    if counts.rows == 0:
        return [GateResult("accuracy", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: accuracy: no evaluation rows{beside}")]
    accuracy, minimum = counts.right / counts.rows, limits.minimum
    if counts.rows < limits.minimum_rows:
        message = f"INCONCLUSIVE: accuracy={accuracy:.4f} {too_few(counts.rows, limits.minimum_rows)}{beside}"
        return [
            GateResult("accuracy", Verdict.INCONCLUSIVE, message, accuracy, wilson(counts.right, counts.rows), minimum)
        ]
    good = accuracy >= minimum
    verdict = Verdict.PASSED if good else Verdict.FAILED
    message = f"PASS accuracy={accuracy:.4f} >= {minimum:g}" if good else f"FAIL: accuracy={accuracy:.4f} < {minimum:g}"
    return [
        GateResult(
            "accuracy",
            verdict,
            message + beside,
            observed=accuracy,
            interval=wilson(counts.right, counts.rows),
            limit=minimum,
        )
    ]


ACCURACY = Gate(
    name="accuracy",
    description="The share of right predictions on the evaluation set is at least the minimum. The point estimate is"
    " judged; its 95 % interval is shown beside it. Rows that the version was trained on are left out.",
    limits=AccuracyLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.CLASSES}),
    unless="a regression has no right and wrong answers",
    overridable=True,
    on_sets=OnSets.ALL,
)
