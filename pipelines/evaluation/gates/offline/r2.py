"""Gate: the share of a regression target's variance that its predictions explain, on the frozen evaluation set."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.offline.metrics import bootstrapped, r2
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np


class R2Limits(Section):
    """Limit on the coefficient of determination on the evaluation set."""

    minimum: float = Field(0.0, ge=-1, le=1, description="R2, as measured: 0 is what the mean of the target has")


@dataclass(frozen=True)
class Explained:
    """R2 with its 95 % interval; None where it is not defined, and `why`."""

    observed: float | None
    interval: tuple[float, float] | None = None
    why: str = ""


def measure(world: Offline, limits: R2Limits) -> Explained:
    """Compare the candidate's values with the true ones."""
    return explained(world.actual, world.candidate.scores.values)


def explained(truth: "np.ndarray", values: "np.ndarray") -> Explained:
    """Return R2 of values (n,) by the truth (n,); its interval is a percentile bootstrap over rows."""
    import numpy as np

    if len(truth) == 0:
        return Explained(None, why="no evaluation rows")
    if np.ptp(truth) == 0:
        return Explained(None, why="the evaluation set has one value only")
    if not np.isfinite(values).all():
        return Explained(None, why="a prediction is not a finite number")
    lower, upper = np.quantile(bootstrapped(lambda rows: r2(truth[rows], values[rows]), len(truth)), [0.025, 0.975])
    return Explained(r2(truth, values), (float(lower), float(upper)))


def judge(found: Explained, limits: R2Limits) -> list[GateResult]:
    """Judge the point estimate; its 95 % interval is shown beside it."""
    if found.observed is None:
        return [GateResult("r2", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: r2: {found.why}")]
    good = found.observed >= limits.minimum
    shown = f"r2={found.observed:.4f}"
    message = f"PASS {shown} >= {limits.minimum:g}" if good else f"FAIL: {shown} < {limits.minimum:g}"
    verdict = Verdict.PASSED if good else Verdict.FAILED
    return [GateResult("r2", verdict, message, found.observed, found.interval, limits.minimum)]


R2 = Gate(
    name="r2",
    description="A regression explains at least the minimum of the target's variance on the evaluation set: R2 = 1 -"
    " sum of squared errors / sum of squared distances from the mean. The point estimate is judged; the 95 % interval"
    " of a bootstrap is shown beside it.",
    limits=R2Limits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.NUMBER}),
    unless="no number is predicted",
    overridable=True,
)
