"""Make the bundle of any registered version with an ONNX model and a signature, whoever registered it.

What a pin names is what is served: a registry whose bytes have changed since is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.domain.bundle import Feature, FeatureType, canonical, digest_of
from pipelines.domain.description import Datasets, Description, ModelInput, Onnx, Output, Provenance
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, Refused
from pipelines.packaging.golden import golden_rows, label_columns
from pipelines.packaging.onnx_model import OnnxModel
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.ports import FetchedModel, ModelRegistry

_TYPES = {
    "long": FeatureType.INTEGER,
    "integer": FeatureType.INTEGER,
    "double": FeatureType.NUMBER,
    "float": FeatureType.NUMBER,
    "string": FeatureType.CATEGORY,
}
_EVALUATION = "slipway/evaluation.parquet"
_PREDICTIONS = "slipway/predictions.parquet"
_EVALUATION_TAG = "slipway.dataset.evaluation"
_TRAIN_TAG = "slipway.dataset.train"
_COMMIT_TAG = "mlflow.source.git.commit"


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

    `predictions` is the digest of the trainer's own, None when it logged none; `kept_predictions` reads them.
    """

    digest: str
    body: dict[str, Any]
    evaluation: Snapshot
    evaluation_path: Path
    predictions: str | None


@dataclass(frozen=True)
class _Material:
    version: RegisteredVersion
    tags: Mapping[str, str]
    fetched: FetchedModel
    evaluation: Snapshot


def make_bundle(
    registry: ModelRegistry,
    store: BundleFiles,
    version: RegisteredVersion,
    *,
    pinned: str | None,
    fallback_evaluation: Callable[[], Path | None],
    workdir: Path,
) -> Packaged:
    """Build, or verify, the bundle of `version` and put it into `store`.

    `pinned` is the digest recorded at first sight: another outcome raises Refused. `fallback_evaluation`
    returns the newest evaluation set known of the model, for versions whose run holds none. NotServable says what a
    version lacks.
    """
    tags = registry.run_tags(version.run_id) if version.run_id else {}
    fetched = registry.fetch_model(version, workdir / "model")
    evaluation_path, own = _evaluation(registry, version, tags, fallback_evaluation, workdir)
    evaluation = read_snapshot(evaluation_path)
    if pinned is not None and store.has(pinned):
        body = store.body(pinned)
        _refuse_changed(version, body["files"]["model.onnx"], digest_of(fetched.onnx_path.read_bytes()))
        if own:
            _refuse_changed(version, body["provenance"]["datasets"]["evaluation"], evaluation.digest)
        digest = pinned
    else:
        body = _describe(_Material(version, tags, fetched, evaluation)).as_json()
        if pinned is not None:
            _refuse_changed(version, pinned, digest_of(canonical(body)))
        digest = store.put(body, {"model.onnx": fetched.onnx_path})
    predictions = _fetch_predictions(registry, version, workdir) if own else None
    return Packaged(digest, body, evaluation, evaluation_path, predictions)


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
) -> tuple[Path, bool]:
    """Return where the evaluation set is, and whether it is the version's own."""
    path = None
    if version.run_id:
        path = registry.fetch_artifact(version.run_id, _EVALUATION, workdir / "evaluation")
    if path is not None:
        snapshot = read_snapshot(path)
        expected = tags.get(_EVALUATION_TAG, snapshot.digest)
        if expected != snapshot.digest:
            raise Refused(
                f"digest mismatch, expected {expected} got {snapshot.digest}: the evaluation set of version"
                f" {version.version} is not the one its run names",
                next="register the version again from an unchanged run",
            )
        return path, True
    fallback = fallback_evaluation()
    if fallback is None:
        raise NotServable(
            f"version {version.version} of {version.model} brings no evaluation set, and none is known",
            next=f'log {_EVALUATION} on its run, or register a first version with "make candidate"',
        )
    return fallback, False


def kept_predictions(
    registry: ModelRegistry, find_version: Callable[[], RegisteredVersion], *, digest: str | None, workdir: Path
) -> pd.DataFrame | None:
    """Return the trainer's predictions that `make_bundle` left in `workdir`; None where there were none.

    They are fetched again where the file is no longer the one of `digest` (an empty one stands for any), and refused
    when the registry's are not either.
    """
    if digest is None:
        return None
    kept = workdir / "predictions" / _PREDICTIONS
    if not digest or not kept.exists() or digest_of(kept.read_bytes()) != digest:
        version = find_version()
        fetched = _fetch_predictions(registry, version, workdir)
        if digest:
            _refuse_changed(version, digest, fetched or "nothing")
        if fetched is None:
            return None
    return _read_predictions(kept)


def _fetch_predictions(registry: ModelRegistry, version: RegisteredVersion, workdir: Path) -> str | None:
    """Download the predictions to their place in `workdir` and return their digest, None when none were logged."""
    path = registry.fetch_artifact(version.run_id, _PREDICTIONS, workdir / "fetched")
    if path is None:
        return None
    # Where in its directory a registry leaves a file is its own affair.
    kept = workdir / "predictions" / _PREDICTIONS
    kept.parent.mkdir(parents=True, exist_ok=True)
    path = path.replace(kept)
    try:
        _read_predictions(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise NotServable(
            f"{_PREDICTIONS} of version {version.version} can't be read: {error}",
            next="log the file that python -m pipelines.training.score writes",
        ) from error
    return digest_of(path.read_bytes())


def _read_predictions(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame = pq.read_table(path, columns=["probability", "label"]).to_pandas()
    return frame


def _describe(material: _Material) -> Description:
    description = material.evaluation.description
    features = _features(material.fetched.input_types, description)
    model = OnnxModel.load(material.fetched.onnx_path)
    if {name for name, _ in model.inputs} != {feature.name for feature in features}:
        raise NotServable(
            f"the ONNX model takes {sorted(name for name, _ in model.inputs)} but the signature names"
            f" {sorted(feature.name for feature in features)}",
            next="log the ONNX model with the signature of the features it takes",
        )
    classes = label_columns(model, material.evaluation)
    index = classes.index(description.positive)
    return Description(
        model=material.version.model,
        features=tuple(feature.written() for feature in features),
        output=Output(target=description.target, classes=classes, positive=description.positive),
        onnx=Onnx(
            inputs=tuple(ModelInput.model_validate({"name": name, "dtype": dtype}) for name, dtype in model.inputs),
            label="label",
            probabilities="probabilities",
            positive_index=index,
        ),
        golden=golden_rows(model, material.evaluation, features, positive_index=index),
        provenance=Provenance(
            run_id=material.version.run_id or None,
            git_commit=material.tags.get(_COMMIT_TAG),
            datasets=Datasets(train=material.tags.get(_TRAIN_TAG), evaluation=material.evaluation.digest),
            dependencies=digest_of(material.fetched.requirements.encode()),
        ),
        files={"model.onnx": digest_of(material.fetched.onnx_path.read_bytes())},
    )


def _features(input_types: Mapping[str, str], description: SnapshotDescription) -> tuple[Feature, ...]:
    """Type every column by the signature; categories and bounds come from the evaluation set."""
    known = {feature.name: feature for feature in description.features}
    features = []
    for name, type_name in input_types.items():
        if type_name not in _TYPES:
            raise NotServable(
                f"feature {name!r} has the type {type_name} in the signature",
                next=f"use one of {', '.join(_TYPES)}",
            )
        feature = known.get(name)
        if feature is None or not _agree(feature.type, _TYPES[type_name]):
            held = "no such column" if feature is None else f"a {feature.type}"
            raise NotServable(
                f"feature {name!r} is a {type_name}, but the evaluation set holds {held}",
                next=f"log {_EVALUATION} with this version's features on its run",
            )
        kind = _TYPES[type_name]
        if kind is FeatureType.CATEGORY:
            features.append(Feature(name, kind, categories=feature.categories))
        else:
            features.append(Feature(name, kind, feature.minimum, feature.maximum, feature.observed))
    return tuple(features)


def _agree(held: FeatureType, asked: FeatureType) -> bool:
    # Whole numbers may feed a model that takes any number, but not the other way round.
    return held is asked or (held, asked) == (FeatureType.INTEGER, FeatureType.NUMBER)
