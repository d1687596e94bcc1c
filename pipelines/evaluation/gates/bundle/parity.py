"""Gate: the ONNX model that is served answers like the scikit-learn model that was trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.description import label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd


class ParityLimits(Limits):
    """Largest allowed difference between ONNX and the model that was trained."""

    tolerance: float = Field(
        1e-5,
        gt=0,
        le=0.001,
        description="the largest difference of a probability, ONNX against scikit-learn; of a value, its share of the"
        " largest one",
    )


@dataclass(frozen=True)
class Differences:
    """How far two models are apart on `rows` rows, of which `logged` were answered when it was trained.

    `largest` is of a probability, or the share of a value; `labels` counts those that differ. Both are None where they
    can't be matched.
    """

    rows: int
    logged: int
    largest: float | None = None
    labels: int | None = None


def measure(world: Offline, limits: ParityLimits) -> Differences:
    """Compare the ONNX scores with the training's own predictions on the same rows, in the same order."""
    assert world.predictions is not None
    candidate = (world.own or world).candidate
    output, scores = candidate.description.output, candidate.scores
    if scores.labels is None:
        columns = {"value": scores.values}
    elif output.positive is not None:
        columns = {"probability": candidate.probability(output.positive)}
    else:
        columns = {f"probability:{label_text(each)}": candidate.probability(each) for each in output.classes}
    return compare(columns, scores.labels, world.predictions, clear=None if scores.labels is None else scores.clear)


def compare(
    numbers: "Mapping[str, np.ndarray]",
    labels: "np.ndarray | None",
    trained: "pd.DataFrame",
    *,
    clear: "np.ndarray | None" = None,
) -> Differences:
    """Compare numbers (n,) by their column, and labels (n,), with a frame of the same columns and `label`.

    `clear` says in which rows a label is no matter of chance; None for all.
    """
    import numpy as np

    rows, logged = len(next(iter(numbers.values()))), len(trained)
    if rows != logged or not rows or not {*numbers, *(["label"] if labels is not None else [])} <= set(trained):
        return Differences(rows, logged)
    answered, expected = (np.column_stack([each[name] for name in numbers]) for each in (numbers, trained))
    # Of a value, the share of the largest one counts.
    scale = 1.0 if labels is not None else max(1.0, float(np.max(np.abs(expected))))
    largest = float(np.max(np.abs(answered - expected))) / scale
    differing = 0
    if labels is not None:
        other = labels != trained["label"].astype(str).to_numpy()
        differing = int(np.sum(other if clear is None else other & clear))
    return Differences(rows, logged, largest, differing)


def judge(found: Differences, limits: ParityLimits) -> list[GateResult]:
    """Pass when no label differs and no number by more than the tolerance; NaN fails."""
    if found.rows != found.logged:
        message = f"{found.logged} predictions were logged for {found.rows} evaluation rows"
        return [GateResult("parity", Verdict.ERROR, message)]
    if found.largest is None and found.rows:
        return [GateResult("parity", Verdict.ERROR, "the predictions that were logged are of another kind of model")]
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
    " the same labels, and no probability, nor share of a value, further away than the tolerance.",
    limits=ParityLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.PREDICTIONS}),
    unless="no scikit-learn predictions were logged with this version",
    overridable=True,
)
