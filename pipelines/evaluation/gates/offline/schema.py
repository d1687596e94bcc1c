"""Gate: every request that production accepts today is accepted and understood by the candidate."""

from typing import Any

from pipelines.domain.bundle import Schema, schema_breaks
from pipelines.domain.verdict import GateResult, Verdict


def judge_schema(candidate: dict[str, Any], champion: dict[str, Any] | None) -> GateResult:
    """Compare the schemas of two parsed `bundle.json`; None means that nothing serves yet."""
    if champion is None:
        return GateResult("schema", Verdict.NOT_APPLICABLE, "no champion yet, so no client to break")
    breaks = schema_breaks(Schema.from_bundle(champion), Schema.from_bundle(candidate))
    if breaks:
        return GateResult("schema", Verdict.FAILED, "FAIL: schema: " + "; ".join(breaks))
    return GateResult("schema", Verdict.PASSED, "PASS schema: accepts all that production accepts")
