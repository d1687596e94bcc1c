"""Make the bundle of any registered version with an ONNX model and a signature, whoever registered it.

What a pin names is what is served: a registry whose bytes have changed since is refused. Files are fetched, hashed and
stored here; what they say is read in a confined job.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.description import Datasets, Description, Provenance
from pipelines.domain.texts import checked_text
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import JobFailed, NotServable, Refused
from pipelines.packaging.confined import (
    EVALUATION,
    MODEL,
    PREDICTIONS,
    REFERENCE,
    TRAINING_ROWS,
    PackagingTask,
    Parsed,
    Read,
    Run,
    ask,
    without_rows,
)
from pipelines.packaging.file_digest import digest_of_file
from pipelines.ports import ModelRegistry

EVALUATION_ARTIFACT = "slipway/evaluation.parquet"
_PREDICTIONS = "slipway/predictions.parquet"
EVALUATION_TAG = "slipway.dataset.evaluation"
TRAIN_TAG = "slipway.dataset.train"
COMMIT_TAG = "mlflow.source.git.commit"
# Where a run keeps the hashes of the rows that it trained on, and the tag with the file's digest.
TRAINING_ROWS_ARTIFACT = "slipway/training-rows.parquet"
TRAINING_ROWS_TAG = "slipway.dataset.training_rows"
# Where it keeps the rows that drift is measured against, and the tag with that file's digest.
REFERENCE_ARTIFACT = "slipway/reference.parquet"
REFERENCE_TAG = "slipway.dataset.reference_rows"
# The tag with the reason why clients have to change for a version.
BREAKING_TAG = "slipway.schema.breaking"
_REQUIREMENTS = "requirements.txt"
_MOST_REQUIREMENTS_BYTES = 1 << 20


class BundleFiles(Protocol):
    """Where bundles are kept."""

    def put(self, body: dict[str, Any], files: dict[str, Path]) -> str:
        """Store a bundle and return its digest."""

    def has(self, digest: str) -> bool:
        """Whether that bundle is stored."""

    def body(self, digest: str) -> dict[str, Any]:
        """Return a stored bundle's verified description."""


@dataclass(frozen=True)
class Packaged:
    """A version's bundle and what its gates judge by.

    `own_evaluation` says whether the evaluation set is the version's own; `rows` are requests made of it.
    `training_rows` is the file of the hashes of the rows that it was trained on and `reference` that of the rows that
    drift is measured against, each None where it has none. `predictions` is the digest of the trainer's own, None when
    it logged none; `kept_predictions` finds them.
    """

    digest: str
    body: dict[str, Any]
    evaluation: Path
    evaluation_digest: str
    own_evaluation: bool
    rows: tuple[dict[str, Any], ...]
    predictions: str | None
    training_rows: Path | None
    reference: Path | None


@dataclass(frozen=True)
class _Material:
    """The files of a version as they were fetched, unread; `own` says whether the evaluation set is the version's."""

    version: RegisteredVersion
    tags: Mapping[str, str]
    model: Path
    evaluation: Path | None
    evaluation_digest: str
    own: bool
    predictions: Path | None
    training_rows: Path | None
    reference: Path | None


def make_bundle(
    registry: ModelRegistry,
    store: BundleFiles,
    run: Run,
    version: RegisteredVersion,
    *,
    pinned: str | None,
    fallback_evaluation: Callable[[], Path | None],
    workdir: Path,
) -> Packaged:
    """Build, or verify, the bundle of `version` and put it into `store`; `run` runs what reads its files.

    `pinned` is the digest recorded at first sight: another outcome raises Refused. `fallback_evaluation`
    returns the evaluation set that judges versions whose run holds none. NotServable says what a version lacks, or
    which bound its files go beyond.
    """
    material = _fetch(registry, version, fallback_evaluation, workdir)
    kept = store.body(pinned) if pinned is not None and store.has(pinned) else None
    if kept and material.own:
        _refuse_changed(version, kept["provenance"]["datasets"]["evaluation"], material.evaluation_digest)
    if kept:
        material = _with_pinned_rows(material, kept["provenance"]["datasets"])
    parsed = _parsed(run, material, kept)
    if material.evaluation is None:
        # The job has said so already, after what else a version lacks.
        raise without_rows(_called(version))
    onnx = material.model / parsed.model_file
    if kept and pinned:
        _refuse_changed(version, kept["files"]["model.onnx"], digest_of_file(onnx))
        digest, body = pinned, kept
    else:
        described = _described(material, parsed.read, onnx)
        older = described.in_format_1()
        if pinned is not None and older and digest_of(canonical(older)) == pinned:
            # Pinned by a Slipway that wrote format 1: the same version stays the same bundle.
            body = older
        else:
            body = described.as_json()
            if pinned is not None:
                _refuse_changed(version, pinned, digest_of(canonical(body)))
        digest = store.put(body, {"model.onnx": onnx})
    predictions = digest_of_file(material.predictions) if material.predictions else None
    return Packaged(
        digest=digest,
        body=body,
        evaluation=material.evaluation,
        evaluation_digest=material.evaluation_digest,
        own_evaluation=material.own,
        rows=parsed.rows,
        predictions=predictions,
        training_rows=material.training_rows,
        reference=material.reference,
    )


def kept_predictions(
    registry: ModelRegistry, find_version: Callable[[], RegisteredVersion], *, digest: str | None, workdir: Path
) -> Path | None:
    """Return the file of the trainer's predictions that `make_bundle` left in `workdir`; None where there were none.

    They are fetched again where the file is no longer the one of `digest` (an empty one stands for any), and refused
    when the registry's are not either.
    """
    if digest is None:
        return None
    kept = workdir / "predictions" / _PREDICTIONS
    if not digest or not kept.exists() or digest_of_file(kept) != digest:
        version = find_version()
        fetched = _fetch_predictions(registry, version, workdir)
        if digest:
            _refuse_changed(version, digest, digest_of_file(fetched) if fetched else "nothing")
        return fetched
    return kept


def fetch_training_rows(registry: ModelRegistry, run_id: str, workdir: Path) -> Path | None:
    """Download the hashes of the rows that a run trained on; None when it logged none."""
    return registry.fetch_artifact(run_id, TRAINING_ROWS_ARTIFACT, workdir / "training-rows")


def fetch_reference(registry: ModelRegistry, run_id: str, workdir: Path) -> Path | None:
    """Download the rows of a run's training that drift is measured against; None when it logged none."""
    return registry.fetch_artifact(run_id, REFERENCE_ARTIFACT, workdir / "reference")


def _fetch(
    registry: ModelRegistry,
    version: RegisteredVersion,
    fallback_evaluation: Callable[[], Path | None],
    workdir: Path,
) -> _Material:
    tags = registry.run_tags(version.run_id) if version.run_id else {}
    model = workdir / "model"
    # What an interrupted step has left may be of another state of the registry.
    shutil.rmtree(model, ignore_errors=True)
    registry.fetch_model(version, model)
    evaluation, evaluation_digest, own = _evaluation(registry, version, tags, fallback_evaluation, workdir)
    predictions = _fetch_predictions(registry, version, workdir) if own else None
    training_rows = fetch_training_rows(registry, version.run_id, workdir) if version.run_id else None
    reference = fetch_reference(registry, version.run_id, workdir) if version.run_id else None
    _refuse_other_rows(version, TRAINING_ROWS_ARTIFACT, tags.get(TRAINING_ROWS_TAG), training_rows)
    _refuse_other_rows(version, REFERENCE_ARTIFACT, tags.get(REFERENCE_TAG), reference)
    return _Material(version, tags, model, evaluation, evaluation_digest, own, predictions, training_rows, reference)


def _refuse_other_rows(version: RegisteredVersion, artifact: str, named: str | None, found: Path | None) -> None:
    """Refuse a run that says of another file that this is what it logged of its training."""
    got = digest_of_file(found) if found else "nothing"
    if named not in (None, got):
        raise Refused(
            f"digest mismatch, expected {named} got {got}: {artifact} of version {version.version} is not"
            " the one its run names",
            next="register the version again from an unchanged run",
        )


def _with_pinned_rows(material: _Material, datasets: Mapping[str, Any]) -> _Material:
    """Return the material with what was pinned of the training: what a run logs afterwards says nothing."""
    if datasets.get("training_rows") is None:
        material = replace(material, training_rows=None)
    if datasets.get("reference") is None:
        material = replace(material, reference=None)
    for path, name in ((material.training_rows, "training_rows"), (material.reference, "reference")):
        if datasets.get(name) is not None:
            _refuse_changed(material.version, datasets[name], digest_of_file(path) if path else "nothing")
    return material


def _parsed(run: Run, material: _Material, kept: dict[str, Any] | None) -> Parsed:
    """Have the files read; of a bundle that is stored already the model is not opened again."""
    version = _called(material.version)
    files = {f"{MODEL}/{path.name}": path for path in material.model.iterdir() if path.is_file()}
    if material.evaluation:
        files[EVALUATION] = material.evaluation
    if material.predictions:
        files[PREDICTIONS] = material.predictions
    if material.training_rows:
        files[TRAINING_ROWS] = material.training_rows
    if material.reference:
        files[REFERENCE] = material.reference
    features = Description.read(kept).features if kept else None
    task = PackagingTask(
        version=version,
        model=material.version.model,
        number=material.version.version,
        features=features,
        predictions=material.predictions is not None,
        training_rows=material.training_rows is not None,
        reference=material.reference is not None,
    )
    try:
        parsed = ask(run, task, files, Parsed)
    except JobFailed as failure:
        raise NotServable(f"{version} can't be served: {failure.message}", next=failure.next) from failure
    if f"{MODEL}/{parsed.model_file}" not in files or (parsed.read is None) is not bool(kept):
        raise NotServable(f"{version} can't be served: its reader answered for another task", next="register it anew")
    return parsed


def _described(material: _Material, read: Read | None, onnx: Path) -> Description:
    assert read is not None
    version, tags = material.version, material.tags
    provenance = Provenance(
        run_id=version.run_id or None,
        # Registration leaves it empty for a project outside of git.
        git_commit=tags.get(COMMIT_TAG) or None,
        datasets=Datasets(
            train=tags.get(TRAIN_TAG),
            evaluation=material.evaluation_digest,
            training_rows=digest_of_file(material.training_rows) if material.training_rows else None,
            reference=digest_of_file(material.reference) if material.reference else None,
        ),
        dependencies=digest_of(_requirements(version, material.model)),
        breaking=_breaking(version, tags.get(BREAKING_TAG)),
    )
    parts = {name: getattr(read, name) for name in type(read).model_fields}
    files = {"model.onnx": digest_of_file(onnx)}
    return Description(model=version.model, provenance=provenance, files=files, **parts)


def _breaking(version: RegisteredVersion, reason: str | None) -> str | None:
    try:
        return checked_text(reason.strip()) or None if reason else None
    except ValueError as error:
        raise NotServable(
            f"the tag {BREAKING_TAG} of version {version.version} of {version.model} can't be shown: {error}",
            next="give the reason in fewer and plainer words",
        ) from error


def _requirements(version: RegisteredVersion, model: Path) -> bytes:
    """Return the logged dependency set with the line ends of text, empty where none was logged."""
    path = model / _REQUIREMENTS
    if not path.exists():
        return b""
    with path.open("rb") as file:
        content = file.read(_MOST_REQUIREMENTS_BYTES + 1)
    if len(content) > _MOST_REQUIREMENTS_BYTES:
        raise NotServable(
            f"version {version.version} of {version.model} can't be served: its {_REQUIREMENTS} has more than"
            f" {_MOST_REQUIREMENTS_BYTES:,} bytes",
            next="log the model again with the packages that it needs",
        )
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _refuse_changed(version: RegisteredVersion, expected: str, got: str) -> None:
    if expected != got:
        raise Refused(
            f"digest mismatch, expected {expected} got {got}: the artifact of version {version.version}"
            " was changed after it was pinned",
            next="register the changed model as a new version",
        )


def fetch_evaluation(
    registry: ModelRegistry, version: RegisteredVersion, tags: Mapping[str, str], workdir: Path
) -> tuple[Path, str] | None:
    """Download the evaluation set of a version's run; return where it is and its digest, None where there is none.

    Raises Refused for another one than its run, which has `tags`, names.
    """
    if not version.run_id:
        return None
    path = registry.fetch_artifact(version.run_id, EVALUATION_ARTIFACT, workdir / "evaluation")
    if path is None:
        return None
    found = digest_of_file(path)
    expected = tags.get(EVALUATION_TAG, found)
    if expected != found:
        raise Refused(
            f"digest mismatch, expected {expected} got {found}: the evaluation set of version"
            f" {version.version} is not the one its run names",
            next="register the version again from an unchanged run",
        )
    return path, found


def _evaluation(
    registry: ModelRegistry,
    version: RegisteredVersion,
    tags: Mapping[str, str],
    fallback_evaluation: Callable[[], Path | None],
    workdir: Path,
) -> tuple[Path | None, str, bool]:
    """Return where the evaluation set is, None without any, its digest, and whether it is the version's own."""
    own = fetch_evaluation(registry, version, tags, workdir)
    if own is not None:
        return *own, True
    fallback = fallback_evaluation()
    return (fallback, digest_of_file(fallback), False) if fallback else (None, "", False)


def _called(version: RegisteredVersion) -> str:
    return f"version {version.version} of {version.model}"


def _fetch_predictions(registry: ModelRegistry, version: RegisteredVersion, workdir: Path) -> Path | None:
    """Download the predictions to their place in `workdir`; None when none were logged."""
    path = registry.fetch_artifact(version.run_id, _PREDICTIONS, workdir / "fetched")
    if path is None:
        return None
    # Where in its directory a registry leaves a file is its own affair.
    kept = workdir / "predictions" / _PREDICTIONS
    kept.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(kept)
