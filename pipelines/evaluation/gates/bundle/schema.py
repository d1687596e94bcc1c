"""Gate: every request that production accepts today is accepted and understood by the candidate."""

from dataclasses import dataclass

from pipelines.domain.bundle import Schema, schema_breaks
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Schemas:
    """What is served, and what would be served instead.

    `declared` is the reason why clients have to change, as the candidate's model.yaml gives it; `former` is the one
    that what is served was declared with.
    """

    serving: Schema
    candidate: Schema
    declared: str | None = None
    former: str | None = None


def measure(world: Offline, limits: NoLimits) -> Schemas:
    """Read the schemas of both bundles, and what they declare."""
    assert world.champion is not None
    candidate, serving = world.candidate.description, world.champion.description
    return Schemas(Schema.of(serving), Schema.of(candidate), candidate.provenance.breaking, serving.provenance.breaking)


def judge(schemas: Schemas, limits: NoLimits) -> list[GateResult]:
    """Pass when no client of the one would be refused by the other, or answered otherwise; or when that is declared.

    A declaration that what is served was made with already says nothing of what breaks now.
    """
    breaks = schema_breaks(schemas.serving, schemas.candidate)
    if not breaks:
        return [GateResult("schema", Verdict.PASSED, "PASS schema: accepts all that production accepts")]
    told = "; ".join(breaks)
    if schemas.declared is None:
        return [GateResult("schema", Verdict.FAILED, f"FAIL: schema: {told}")]
    if schemas.declared == schemas.former:
        why = f"production was declared breaking by the same reason: {schemas.declared}"
        return [GateResult("schema", Verdict.FAILED, f"FAIL: schema: {told} ({why})")]
    message = f"PASS schema: breaks clients, as declared ({schemas.declared}): {told}"
    return [GateResult("schema", Verdict.PASSED, message)]


SCHEMA = Gate(
    name="schema",
    description="Every request that production accepts today is accepted by the candidate: the same features and types,"
    " no category and no range of values lost, the same classes. What breaks clients passes only where the version"
    " declares it, with a reason that is not the one production was declared with; who approves is told both.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.CHAMPION}),
    unless="no champion yet, so no client to break",
    advice="keep what clients send, or declare in model.yaml that they have to change, and why:"
    ' schema: {change: breaking, reason: "..."}',
)
