"""Gate: the model answers its golden rows as it did when its bundle was made."""

from dataclasses import dataclass

from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Replay:
    """The largest difference of a probability, whether all labels agree, and the bundle's own tolerance."""

    difference: float
    labels_agree: bool
    tolerance: float


def measure(world: Offline, limits: NoLimits) -> Replay:
    """Replay the bundle's golden rows and compare them with the outputs recorded at packaging."""
    import numpy as np
    import pandas as pd

    description = world.candidate.description
    golden = description.golden
    scores = world.candidate.ask(pd.DataFrame(list(golden.rows)))
    expected = np.array([answer.probability for answer in golden.expected])
    return Replay(
        difference=float(np.max(np.abs(scores.probabilities - expected))),
        labels_agree=list(scores.labels) == [answer.prediction for answer in golden.expected],
        tolerance=golden.tolerance,
    )


def judge(replay: Replay, limits: NoLimits) -> list[GateResult]:
    """Pass when the difference is within the tolerance and the labels agree; NaN fails."""
    observed, limit = replay.difference, replay.tolerance
    if replay.labels_agree and observed <= limit:
        verdict, message = Verdict.PASSED, f"PASS golden_rows <= {limit:g}"
    else:
        verdict = Verdict.FAILED
        message = f"FAIL: golden_rows={observed:.4g} > {limit:g} (labels agree: {replay.labels_agree})"
    return [GateResult("golden_rows", verdict, message, observed=observed, limit=limit)]


GOLDEN_ROWS = Gate(
    name="golden_rows",
    description="The model answers the golden rows of its bundle as it did when the bundle was made, within the"
    " tolerance that stands in the bundle. Every replica replays the same rows before it serves.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL}),
)
