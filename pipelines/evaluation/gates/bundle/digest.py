"""Gate: the bundle is the one that was pinned for its version."""

from dataclasses import dataclass

from pipelines.domain.bundle import digest_of
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, NoLimits
from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Digests:
    """The digest pinned for a version, and the one that its bundle has."""

    expected: str
    got: str


def measure(world: Offline, limits: NoLimits) -> Digests:
    """Take the SHA-256 of the bundle's description, which holds those of all other files."""
    return Digests(world.digest, digest_of((world.candidate.path / "bundle.json").read_bytes()))


def judge(digests: Digests, limits: NoLimits) -> list[GateResult]:
    """Pass when both are the same."""
    if digests.got != digests.expected:
        message = f"FAIL: digest mismatch, expected {digests.expected} got {digests.got}"
        return [GateResult("digest", Verdict.FAILED, message)]
    return [GateResult("digest", Verdict.PASSED, f"PASS digest {digests.expected}")]


DIGEST = Gate(
    name="digest",
    description="The SHA-256 of the bundle's description is the one that was pinned when the version was first seen."
    " A registry whose bytes were changed afterwards is found here.",
    limits=NoLimits,
    measure=measure,
    judge=judge,
)
