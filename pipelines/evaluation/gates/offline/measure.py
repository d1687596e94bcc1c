"""All gates that need no running service, measured on one frozen evaluation set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.domain.policy import Gates
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.offline.accuracy import measure_accuracy
from pipelines.evaluation.gates.offline.comparison import measure_comparison
from pipelines.evaluation.gates.offline.parity import measure_parity
from pipelines.evaluation.gates.offline.safety import measure_artifact_safety, measure_digest, measure_golden_rows
from pipelines.evaluation.gates.offline.schema import judge_schema
from pipelines.packaging.onnx_model import OnnxModel, Scores
from pipelines.packaging.snapshot import Snapshot


@dataclass(frozen=True)
class Measured:
    """What is measured: a candidate's bundle, the evaluation set, and the champion if there is one.

    `predictions` are the training's own on the same rows, or None when none were logged.
    """

    bundle: Path
    digest: str
    body: dict[str, Any]
    snapshot: Snapshot
    predictions: pd.DataFrame | None
    champion: Path | None
    champion_body: dict[str, Any] | None


def measure(measured: Measured, limits: Gates) -> list[GateResult]:
    """Return one result a gate, in the order of a report; stop after the bundle's own gates fail."""
    own = [
        measure_digest(measured.bundle, expected=measured.digest),
        measure_artifact_safety(measured.bundle),
    ]
    if not all(result.verdict.goes_on for result in own):
        return own
    snapshot, positive = measured.snapshot, measured.body["output"]["positive"]
    actual = snapshot.frame[snapshot.description.target].astype(str).to_numpy()
    scores = _score(measured.bundle, measured.body, snapshot.frame)
    return [
        *own,
        measure_golden_rows(measured.bundle, measured.body),
        judge_schema(measured.body, measured.champion_body),
        measure_parity(scores, measured.predictions, tolerance=limits.parity.tolerance),
        measure_accuracy(scores.labels, actual, minimum=limits.accuracy.minimum),
        _compare(measured, scores.probabilities, actual == positive, margin=limits.comparison.margin),
    ]


def _score(bundle: Path, body: dict[str, Any], frame: pd.DataFrame) -> Scores:
    return OnnxModel.load(bundle / "model.onnx").score(frame, positive_index=body["onnx"]["positive_index"])


def _compare(measured: Measured, candidate: Any, positive: Any, *, margin: float) -> GateResult:
    if measured.champion is None or measured.champion_body is None:
        return GateResult("comparison", Verdict.NOT_APPLICABLE, "no champion yet to compare with")
    frame = measured.snapshot.frame
    missing = [f["name"] for f in measured.champion_body["features"] if f["name"] not in frame.columns]
    if missing:
        message = f"INCONCLUSIVE: comparison: the evaluation set lacks the champion's {', '.join(missing)}"
        return GateResult("comparison", Verdict.INCONCLUSIVE, message)
    champion = _score(measured.champion, measured.champion_body, frame)
    return measure_comparison(candidate, champion.probabilities, positive, margin=margin)
