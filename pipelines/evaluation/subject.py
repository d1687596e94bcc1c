"""What an evaluation is about, fixed at packaging, and the files that its steps share.

The journal of a workflow holds JSON: here, and nowhere else, objects become it and come back. A file that a step left
is used again only after its digest was checked.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.domain.bundle import digest_of
from pipelines.domain.policy import Policy
from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult
from pipelines.errors import Refused
from pipelines.packaging.file_digest import digest_of_file
from pipelines.ports import Step
from pipelines.releases.services import Services

# What the journal of an evaluation holds that began before predictions, or rows, were kept by their digest.
_NOT_KEPT = ""
# The file of the requests, in the directory of an evaluation.
ROWS = "rows.json"


@dataclass(frozen=True)
class Subject:
    """A version, the bundle and evaluation set it is measured by, the release it is compared with, and the policy.

    `evalset_version` is the version that brought the set. `predictions` is the digest of the training's own answers,
    None when none were logged; `rows` that of the requests made of the evaluation set. One report is judged by one
    policy: the one that was in force at packaging.
    """

    model: str
    version: str
    bundle_digest: str
    evalset_digest: str
    evalset_version: str | None
    predictions: str | None
    rows: str
    champion_release: str | None
    policy: Policy

    def as_json(self) -> dict[str, Any]:
        """Return what the journal keeps, beside the evaluation's own record."""
        return {
            "bundle_digest": self.bundle_digest,
            "evalset_digest": self.evalset_digest,
            "evalset_version": self.evalset_version,
            "predictions": self.predictions,
            "rows": self.rows,
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
            evalset_version=body.get("evalset_version"),
            predictions=body.get("predictions", _NOT_KEPT),
            rows=body.get("rows", _NOT_KEPT),
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


def kept_evaluation_set(services: Services, digest: str) -> Path:
    """Return the file of the evaluation set of that digest, unread; raise Refused when the file kept is another."""
    path = evalset_path(services, digest)
    if (found := digest_of_file(path)) != digest:
        raise Refused(
            f"digest mismatch, expected {digest} got {found}: {path.name} was changed after it was kept",
            next="evaluate the version again, which keeps the set anew",
        )
    return path


def keep_rows(services: Services, evaluation: Evaluation, rows: Sequence[dict[str, Any]]) -> str:
    """Keep the requests made of the evaluation set, and return their digest."""
    content = json.dumps({"model": evaluation.model, "rows": rows}).encode()
    (workdir_of(services, evaluation) / ROWS).write_bytes(content)
    return digest_of(content)


def kept_rows(services: Services, evaluation: Evaluation, digest: str) -> list[dict[str, Any]]:
    """Return the requests of that digest; raise Refused when the file kept is another, or none."""
    path = workdir_of(services, evaluation) / ROWS
    content = path.read_bytes() if path.exists() else b""
    if digest_of(content) != digest:
        raise Refused(
            f"the requests of {evaluation.id} are not those that were made of its evaluation set",
            next="evaluate the version again, which makes them anew",
        )
    rows: list[dict[str, Any]] = json.loads(content)["rows"]
    return rows


def keep_evaluation_set(services: Services, source: Path, digest: str) -> None:
    """Keep an evaluation set by its digest, in place of a file that has another by now."""
    kept = evalset_path(services, digest)
    if kept.exists() and digest_of_file(kept) == digest:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    shutil.copyfile(source, partial)
    partial.rename(kept)


def evalset_path(services: Services, digest: str) -> Path:
    """Return where the evaluation set of that digest is kept."""
    return services.workdir / "evaluation-sets" / f"{digest.replace(':', '-')}.parquet"


def workdir_of(services: Services, evaluation: Evaluation) -> Path:
    """Return the directory of an evaluation's files, which its load runs leave their reports in."""
    path = services.workdir / "work" / evaluation.id
    path.mkdir(parents=True, exist_ok=True)
    return path
