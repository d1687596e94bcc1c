"""Gate: the model answers its golden rows as it did when its bundle was made."""

import math
from dataclasses import dataclass

from pipelines.domain.description import difference
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Replay:
    """The largest difference of a number, infinite where a label differs, and the bundle's own tolerance."""

    difference: float
    tolerance: float


def measure(world: Offline, limits: NoLimits) -> Replay:
    """Replay the bundle's golden rows and compare them with the outputs recorded at packaging."""
    import numpy as np
    import pandas as pd

    from pipelines.packaging.golden import answers_of

    description = world.candidate.description
    golden = description.golden
    answers = answers_of(world.candidate.ask(pd.DataFrame(list(golden.rows))), description.output)
    pairs = zip(answers, golden.expected, strict=True)
    # Unlike max(), this one keeps a NaN.
    largest = float(np.max([difference(answer, expected) for answer, expected in pairs]))
    return Replay(largest, golden.tolerance)


def judge(replay: Replay, limits: NoLimits) -> list[GateResult]:
    """Pass when the difference is within the tolerance; NaN fails."""
    observed, limit = replay.difference, replay.tolerance
    if observed <= limit:
        verdict, message = Verdict.PASSED, f"PASS golden_rows <= {limit:g}"
    else:
        found = "another label" if math.isinf(observed) else f"{observed:.4g}"
        verdict, message = Verdict.FAILED, f"FAIL: golden_rows={found} > {limit:g}"
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
