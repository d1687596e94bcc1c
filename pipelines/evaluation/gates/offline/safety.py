"""Gates over the bundle itself: its bytes, what its graph may do, and its golden rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.domain.bundle import digest_of
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import OnnxModel


def measure_digest(bundle: Path, *, expected: str) -> GateResult:
    """Compare the SHA-256 of a bundle's description with the digest pinned for its version."""
    got = digest_of((bundle / "bundle.json").read_bytes())
    if got != expected:
        return GateResult("digest", Verdict.FAILED, f"FAIL: digest mismatch, expected {expected} got {got}")
    return GateResult("digest", Verdict.PASSED, f"PASS digest {expected}")


def measure_artifact_safety(bundle: Path) -> GateResult:
    """Check that the graph uses standard operators only and no file but its own."""
    try:
        OnnxModel.load(bundle / "model.onnx")
    except NotServable as refusal:
        return GateResult("artifact_safety", Verdict.FAILED, f"FAIL: artifact_safety: {refusal.message}")
    return GateResult("artifact_safety", Verdict.PASSED, "PASS artifact_safety: standard operators, one file")


def measure_golden_rows(bundle: Path, body: dict[str, Any]) -> GateResult:
    """Replay the bundle's golden rows and compare them with the outputs recorded at packaging."""
    golden = body["golden"]
    model = OnnxModel.load(bundle / "model.onnx")
    scores = model.score(pd.DataFrame(golden["rows"]), positive_index=body["onnx"]["positive_index"])
    expected = np.array([row["probability"] for row in golden["expected"]])
    labels_agree = list(scores.labels) == [row["prediction"] for row in golden["expected"]]
    difference = float(np.max(np.abs(scores.probabilities - expected)))
    return judge_golden_rows(difference, labels_agree=labels_agree, tolerance=golden["tolerance"])


def judge_golden_rows(difference: float, *, labels_agree: bool, tolerance: float) -> GateResult:
    """Pass when the largest difference of a probability is within `tolerance` and the labels agree."""
    good = labels_agree and difference <= tolerance
    verdict = Verdict.PASSED if good else Verdict.FAILED
    sign = "PASS golden_rows <=" if good else "FAIL: golden_rows="
    message = (
        f"{sign} {tolerance:g}" if good else f"{sign}{difference:.4g} > {tolerance:g} (labels agree: {labels_agree})"
    )
    return GateResult("golden_rows", verdict, message, observed=difference, limit=tolerance)
