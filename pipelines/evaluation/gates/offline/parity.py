"""Gate: the ONNX model that is served answers like the scikit-learn model that was trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.packaging.onnx_model import Scores


class ParityLimits(Section):
    """Largest allowed difference of a probability between ONNX and scikit-learn."""

    tolerance: float = Field(
        1e-5, gt=0, le=0.001, description="the largest difference of a probability, ONNX against scikit-learn"
    )


@dataclass(frozen=True)
class Differences:
    """How far two models are apart on `rows` rows, of which `logged` were answered when it was trained.

    `largest` is of a probability, `labels` counts those that differ; both are None where the rows can't be matched.
    """

    rows: int
    logged: int
    largest: float | None = None
    labels: int | None = None


def measure(world: Offline, limits: ParityLimits) -> Differences:
    """Compare the ONNX scores with the training's own predictions on the same rows, in the same order."""
    assert world.predictions is not None
    return compare(world.candidate.scores, world.predictions)


def compare(scores: "Scores", trained: "pd.DataFrame") -> Differences:
    """Compare scores with a frame of the columns `label` and `probability`."""
    import numpy as np

    rows, logged = len(scores.probabilities), len(trained)
    if rows != logged or not rows:
        return Differences(rows, logged)
    largest = float(np.max(np.abs(scores.probabilities - trained["probability"].to_numpy())))
    labels = int(np.sum(scores.labels != trained["label"].astype(str).to_numpy()))
    return Differences(rows, logged, largest, labels)


def judge(found: Differences, limits: ParityLimits) -> list[GateResult]:
    """Pass when no label differs and no probability by more than the tolerance; NaN fails."""
    if found.rows != found.logged:
        message = f"{found.logged} predictions were logged for {found.rows} evaluation rows"
        return [GateResult("parity", Verdict.ERROR, message)]
    if found.largest is None:
        return [GateResult("parity", Verdict.INCONCLUSIVE, "INCONCLUSIVE: parity: no evaluation rows")]
    if found.labels == 0 and found.largest <= limits.tolerance:
        verdict = Verdict.PASSED
        message = f"PASS parity: largest difference {found.largest:.2g} <= {limits.tolerance:g}"
    else:
        verdict = Verdict.FAILED
        message = f"FAIL: parity={found.largest:.4g} > {limits.tolerance:g} ({found.labels} labels differ)"
    return [GateResult("parity", verdict, message, observed=found.largest, limit=limits.tolerance)]


PARITY = Gate(
    name="parity",
    description="The ONNX model that is served answers the evaluation set like the scikit-learn model that was trained:"
    " the same labels, and no probability further away than the tolerance.",
    limits=ParityLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.PREDICTIONS}),
    unless="no scikit-learn predictions were logged with this version",
    overridable=True,
)
