"""Make the bundle of any registered version with an ONNX model and a signature, whoever registered it.

What a pin names is what is served: a registry whose bytes have changed since is refused. Files are fetched, hashed and
stored here; what they say is read in a confined job.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.description import Datasets, Description, Provenance
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import JobFailed, NotServable, Refused
from pipelines.packaging.confined import EVALUATION, MODEL, PREDICTIONS, PackagingTask, Parsed, Read, Run, ask
from pipelines.packaging.file_digest import digest_of_file
from pipelines.ports import ModelRegistry

_EVALUATION = "slipway/evaluation.parquet"
_PREDICTIONS = "slipway/predictions.parquet"
_EVALUATION_TAG = "slipway.dataset.evaluation"
_TRAIN_TAG = "slipway.dataset.train"
_COMMIT_TAG = "mlflow.source.git.commit"
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
    `predictions` is the digest of the trainer's own, None when it logged none; `kept_predictions` finds them.
    """

    digest: str
    body: dict[str, Any]
    evaluation: Path
    evaluation_digest: str
    own_evaluation: bool
    rows: tuple[dict[str, Any], ...]
    predictions: str | None


@dataclass(frozen=True)
class _Material:
    """The files of a version as they were fetched, unread; `own` says whether the evaluation set is the version's."""

    version: RegisteredVersion
    tags: Mapping[str, str]
    model: Path
    evaluation: Path
    evaluation_digest: str
    own: bool
    predictions: Path | None


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
    parsed = _parsed(run, material, kept)
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
    return _Material(version, tags, model, evaluation, evaluation_digest, own, predictions)


def _parsed(run: Run, material: _Material, kept: dict[str, Any] | None) -> Parsed:
    """Have the files read; of a bundle that is stored already the model is not opened again."""
    version = f"version {material.version.version} of {material.version.model}"
    files = {f"{MODEL}/{path.name}": path for path in material.model.iterdir() if path.is_file()}
    files[EVALUATION] = material.evaluation
    if material.predictions:
        files[PREDICTIONS] = material.predictions
    features = Description.read(kept).features if kept else None
    task = PackagingTask(version=version, features=features, predictions=material.predictions is not None)
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
        git_commit=tags.get(_COMMIT_TAG),
        datasets=Datasets(train=tags.get(_TRAIN_TAG), evaluation=material.evaluation_digest),
        dependencies=digest_of(_requirements(version, material.model)),
    )
    parts = {name: getattr(read, name) for name in type(read).model_fields}
    files = {"model.onnx": digest_of_file(onnx)}
    return Description(model=version.model, provenance=provenance, files=files, **parts)


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


def _evaluation(
    registry: ModelRegistry,
    version: RegisteredVersion,
    tags: Mapping[str, str],
    fallback_evaluation: Callable[[], Path | None],
    workdir: Path,
) -> tuple[Path, str, bool]:
    """Return where the evaluation set is, its digest, and whether it is the version's own."""
    path = None
    if version.run_id:
        path = registry.fetch_artifact(version.run_id, _EVALUATION, workdir / "evaluation")
    if path is not None:
        found = digest_of_file(path)
        expected = tags.get(_EVALUATION_TAG, found)
        if expected != found:
            raise Refused(
                f"digest mismatch, expected {expected} got {found}: the evaluation set of version"
                f" {version.version} is not the one its run names",
                next="register the version again from an unchanged run",
            )
        return path, found, True
    fallback = fallback_evaluation()
    if fallback is None:
        raise NotServable(
            f"version {version.version} of {version.model} brings no evaluation set, and no version that serves or"
            " passed has one",
            next=f'log {_EVALUATION} on its run, or have a version with one pass first (see "make candidate")',
        )
    return fallback, digest_of_file(fallback), False


def _fetch_predictions(registry: ModelRegistry, version: RegisteredVersion, workdir: Path) -> Path | None:
    """Download the predictions to their place in `workdir`; None when none were logged."""
    path = registry.fetch_artifact(version.run_id, _PREDICTIONS, workdir / "fetched")
    if path is None:
        return None
    # Where in its directory a registry leaves a file is its own affair.
    kept = workdir / "predictions" / _PREDICTIONS
    kept.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(kept)
