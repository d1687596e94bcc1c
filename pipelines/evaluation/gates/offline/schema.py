"""Gate: every request that production accepts today is accepted and understood by the candidate."""

from dataclasses import dataclass

from pipelines.domain.bundle import Schema, schema_breaks
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Schemas:
    """What is served, and what would be served instead."""

    serving: Schema
    candidate: Schema


def measure(world: Offline, limits: NoLimits) -> Schemas:
    """Read the schemas of both bundles."""
    assert world.champion is not None
    return Schemas(Schema.of(world.champion.description), Schema.of(world.candidate.description))


def judge(schemas: Schemas, limits: NoLimits) -> list[GateResult]:
    """Pass when no client of the one would be refused by the other, or answered otherwise."""
    breaks = schema_breaks(schemas.serving, schemas.candidate)
    if breaks:
        return [GateResult("schema", Verdict.FAILED, "FAIL: schema: " + "; ".join(breaks))]
    return [GateResult("schema", Verdict.PASSED, "PASS schema: accepts all that production accepts")]


SCHEMA = Gate(
    name="schema",
    description="Every request that production accepts today is accepted by the candidate: the same features and types,"
    " no category and no range of values lost, the same classes.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.CHAMPION}),
    unless="no champion yet, so no client to break",
)
