"""What an evaluation is about, fixed at packaging, and the files that its steps share.

The journal of a workflow holds JSON: here, and nowhere else, objects become it and come back. A file that a step left
is used again only after its digest was checked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.domain.bundle import digest_of
from pipelines.domain.policy import Policy
from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult
from pipelines.errors import Refused
from pipelines.ports import Step
from pipelines.releases.services import Services

if TYPE_CHECKING:
    from pipelines.packaging.snapshot import Snapshot

# What the journal of an evaluation holds that began before predictions were kept by their digest.
_NOT_KEPT = ""


@dataclass(frozen=True)
class Subject:
    """A version, the bundle and evaluation set it is measured by, the release it is compared with, and the policy.

    `predictions` is the digest of the training's own answers, None when none were logged. One report is judged by one
    policy: the one that was in force at packaging.
    """

    model: str
    version: str
    bundle_digest: str
    evalset_digest: str
    predictions: str | None
    champion_release: str | None
    policy: Policy

    def as_json(self) -> dict[str, Any]:
        """Return what the journal keeps, beside the evaluation's own record."""
        return {
            "bundle_digest": self.bundle_digest,
            "evalset_digest": self.evalset_digest,
            "predictions": self.predictions,
            "champion_release": self.champion_release,
            "policy": self.policy.body,
        }

    @classmethod
    def from_json(cls, evaluation: Evaluation, body: dict[str, Any]) -> "Subject":
        """Rebuild what `as_json` wrote for `evaluation`."""
        return cls(
            model=evaluation.model,
            version=evaluation.version,
            bundle_digest=body["bundle_digest"],
            evalset_digest=body["evalset_digest"],
            predictions=body.get("predictions", _NOT_KEPT),
            champion_release=body["champion_release"],
            policy=Policy.read(body["policy"]),
        )


def subject_step(step: Step, name: str, evaluation: Evaluation, action: Callable[[], Subject]) -> Subject:
    """Run `action` as a durable step and return its subject."""
    return Subject.from_json(evaluation, step(name, lambda: action().as_json()))


def results_step(step: Step, name: str, action: Callable[[], list[GateResult]]) -> list[GateResult]:
    """Run `action` as a durable step and return its results."""
    kept = step(name, lambda: [result.as_dict() for result in action()])
    return [GateResult.from_dict(result) for result in kept]


def kept_evaluation_set(services: Services, digest: str) -> "Snapshot":
    """Return the evaluation set of that digest; raise Refused when the file kept is another."""
    from pipelines.packaging.snapshot import read_snapshot

    path = evalset_path(services, digest)
    snapshot = read_snapshot(path)
    if snapshot.digest != digest:
        raise Refused(
            f"digest mismatch, expected {digest} got {snapshot.digest}: {path.name} was changed after it was kept",
            next="evaluate the version again, which keeps the set anew",
        )
    return snapshot


def keep_evaluation_set(services: Services, source: Path, digest: str) -> None:
    """Keep an evaluation set by its digest, in place of a file that has another by now."""
    kept = evalset_path(services, digest)
    if kept.exists() and digest_of(kept.read_bytes()) == digest:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    partial.write_bytes(source.read_bytes())
    partial.rename(kept)


def evalset_path(services: Services, digest: str) -> Path:
    """Return where the evaluation set of that digest is kept."""
    return services.workdir / "evaluation-sets" / f"{digest.replace(':', '-')}.parquet"


def workdir_of(services: Services, evaluation: Evaluation) -> Path:
    """Return the directory of an evaluation's files, which its load runs leave their reports in."""
    path = services.workdir / "work" / evaluation.id
    path.mkdir(parents=True, exist_ok=True)
    return path
