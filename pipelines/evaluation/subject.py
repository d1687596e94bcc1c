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
from pipelines.domain.description import Datasets, Description
from pipelines.domain.evalset import reference_name, training_rows_name
from pipelines.domain.policy import Policy
from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult
from pipelines.errors import NotServable, Refused, UnknownVersion
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.package import fetch_reference, fetch_training_rows
from pipelines.ports import Step
from pipelines.releases.services import Services

# What the journal of an evaluation holds that began before predictions, or rows, were kept by their digest.
_NOT_KEPT = ""
# The file of the requests, in the directory of an evaluation.
ROWS = "rows.json"


@dataclass(frozen=True)
class Subject:
    """A version, the bundle and evaluation set it is measured by, the release it is compared with, and the policy.

    `evalset_version` is the version that brought the set, and `evalset_number` which one of the model's it is.
    `own_evalset` is the one that the version brings, None where that is the same, or none. `predictions` is the digest
    of the training's own answers, None when none were logged; `rows` that of the requests made of the version's
    evaluation set. One report is judged by one policy: the one that was in force at packaging. `gates_digest` names the
    gates of that moment, None in a journal of before this was kept.
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
    evalset_number: int | None = None
    own_evalset: str | None = None
    gates_digest: str | None = None

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
            "evalset_number": self.evalset_number,
            "own_evalset": self.own_evalset,
            "gates_digest": self.gates_digest,
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
            evalset_number=body.get("evalset_number"),
            own_evalset=body.get("own_evalset"),
            gates_digest=body.get("gates_digest"),
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
    _keep(evalset_path(services, digest), source, digest)


def keep_training_rows(services: Services, source: Path, digest: str) -> None:
    """Keep the hashes of the rows of a training by their digest: its run may be gone once it is the champion's."""
    _keep(training_rows_path(services, digest), source, digest)


def keep_reference(services: Services, source: Path, digest: str) -> None:
    """Keep the rows that drift is measured against by their digest, as those of the training are."""
    _keep(reference_path(services, digest), source, digest)


def kept_training_rows(services: Services, bundle_digest: str, workdir: Path) -> Path | None:
    """Return the hashes of the rows that the version of a bundle was trained on, as they were pinned.

    They are fetched anew where the file that was kept is another, or gone. None where the version does not say, or
    nobody has them any more.
    """
    datasets, run_id = _trained_with(services, bundle_digest)
    digest = datasets.training_rows
    if digest is None:
        return None
    kept = training_rows_path(services, digest)
    return _kept_of_run(kept, digest, lambda: fetch_training_rows(services.registry, run_id, workdir))


def kept_reference(services: Services, bundle_digest: str, workdir: Path) -> Path | None:
    """Return the rows that drift is measured against of a bundle's version, as `kept_training_rows` does."""
    datasets, run_id = _trained_with(services, bundle_digest)
    digest = datasets.reference
    if digest is None:
        return None
    kept = reference_path(services, digest)
    return _kept_of_run(kept, digest, lambda: fetch_reference(services.registry, run_id, workdir))


def _trained_with(services: Services, bundle_digest: str) -> tuple[Datasets, str]:
    provenance = Description.read(services.bundles.body(bundle_digest)).provenance
    return provenance.datasets, provenance.run_id or ""


def _kept_of_run(kept: Path, digest: str, fetch: Callable[[], Path | None]) -> Path | None:
    if not kept.exists() or digest_of_file(kept) != digest:
        try:
            found = fetch()
        except (NotServable, UnknownVersion):
            return None
        if found is None or digest_of_file(found) != digest:
            return None
        _keep(kept, found, digest)
    return kept


def _keep(kept: Path, source: Path, digest: str) -> None:
    if kept.exists() and digest_of_file(kept) == digest:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    shutil.copyfile(source, partial)
    partial.rename(kept)


def evalset_path(services: Services, digest: str) -> Path:
    """Return where the evaluation set of that digest is kept."""
    return services.workdir / "evaluation-sets" / f"{digest.replace(':', '-')}.parquet"


def training_rows_path(services: Services, digest: str) -> Path:
    """Return where the hashes of the rows of that digest are kept: beside the sets that they are looked for in."""
    return services.workdir / "evaluation-sets" / training_rows_name(digest)


def reference_path(services: Services, digest: str) -> Path:
    """Return where the rows of that digest are kept that drift is measured against."""
    return services.workdir / "evaluation-sets" / reference_name(digest)


def workdir_of(services: Services, evaluation: Evaluation) -> Path:
    """Return the directory of an evaluation's files, which its load runs leave their reports in."""
    path = services.workdir / "work" / evaluation.id
    path.mkdir(parents=True, exist_ok=True)
    return path
