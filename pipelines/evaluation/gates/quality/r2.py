"""Gate: the share of a regression target's variance that its predictions explain, on the frozen evaluation set."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, refused_beside, too_few
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.intervals import estimated
from pipelines.evaluation.gates.quality.measures import R2 as METRIC

if TYPE_CHECKING:
    import numpy as np


class R2Limits(Limits):
    """Limit on the coefficient of determination on the evaluation set."""

    minimum: float = Field(0.0, ge=-1, le=1, description="R2, as measured: 0 is what the mean of the target has")
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Explained:
    """R2 of so many rows, with its 95 % interval; None where it is not defined, and `why`, with its verdict.

    `refused` counts the rows that the service would not take as requests.
    """

    observed: float | None
    interval: tuple[float, float] | None = None
    why: str = ""
    rows: int = 0
    refused: int = 0
    verdict: Verdict = Verdict.INCONCLUSIVE


def measure(world: Offline, limits: R2Limits) -> Explained:
    """Compare the candidate's values with the true ones, on rows that it was not trained on."""
    rows, scores = world.candidate.judged
    return replace(explained(world.actual[rows], scores.values), refused=world.candidate.refused)


def explained(truth: "np.ndarray", values: "np.ndarray") -> Explained:
    """Return R2 of values (n,) by the truth (n,); its interval is that of `estimated`."""
    import numpy as np

    if len(truth) == 0:
        return Explained(None, why="no evaluation rows")
    if not np.isfinite(values).all():
        return Explained(None, why="a prediction is not a finite number", verdict=Verdict.ERROR)
    if np.ptp(truth) == 0:
        return Explained(None, why="the evaluation set has one value only")
    found = estimated(METRIC, values, truth)
    if found is None:
        return Explained(None, why="hardly any row differs from the others")
    return Explained(found.value, found.interval, rows=len(truth))


def judge(found: Explained, limits: R2Limits) -> list[GateResult]:
    """Judge the point estimate; its 95 % interval is shown beside it."""
    beside = refused_beside(found.refused)
    if found.observed is None:
        return [GateResult("r2", found.verdict, f"{found.verdict.upper()}: r2: {found.why}{beside}")]
    good = found.observed >= limits.minimum
    shown = f"r2={found.observed:.4f}"
    if found.rows < limits.minimum_rows:
        message = f"INCONCLUSIVE: {shown} {too_few(found.rows, limits.minimum_rows)}{beside}"
        return [GateResult("r2", Verdict.INCONCLUSIVE, message, found.observed, found.interval, limits.minimum)]
    message = f"PASS {shown} >= {limits.minimum:g}" if good else f"FAIL: {shown} < {limits.minimum:g}"
    verdict = Verdict.PASSED if good else Verdict.FAILED
    return [GateResult("r2", verdict, message + beside, found.observed, found.interval, limits.minimum)]


R2 = Gate(
    name="r2",
    description="A regression explains at least the minimum of the target's variance on the evaluation set: R2 = 1 -"
    " sum of squared errors / sum of squared distances from the mean. The point estimate is judged; the 95 % interval"
    " of a bootstrap is shown beside it. Rows that the version was trained on are left out.",
    limits=R2Limits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.NUMBER}),
    unless="no number is predicted",
    overridable=True,
    on_sets=OnSets.ALL,
)
