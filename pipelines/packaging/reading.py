"""Reads the files of a registered version, inside of a confined job: what a bundle says of its model is from here."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import ModelInput, Onnx, Output
from pipelines.errors import NotServable
from pipelines.packaging.confined import EVALUATION, MODEL, PREDICTIONS, REQUEST_ROWS, PackagingTask, Parsed, Read
from pipelines.packaging.golden import golden_rows, label_columns, request_value
from pipelines.packaging.mlmodel import read_mlmodel
from pipelines.packaging.onnx_model import OnnxModel
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot

_TYPES = {
    "long": FeatureType.INTEGER,
    "integer": FeatureType.INTEGER,
    "double": FeatureType.NUMBER,
    "float": FeatureType.NUMBER,
    "string": FeatureType.CATEGORY,
}


def read_version(task: PackagingTask, place: Path) -> Parsed:
    """Return what the files in `place` say; raise NotServable for what can't be served, by name."""
    model_file, input_types = read_mlmodel(place / MODEL, task.version)
    evaluation = read_snapshot(place / EVALUATION)
    if task.features is None:
        features = _features(input_types, evaluation.description)
    else:
        features = tuple(map(Feature.read, task.features))
    _refuse_empty(evaluation.frame, features)
    if task.predictions:
        _refuse_unreadable(place / PREDICTIONS, task.version)
    read = _read_model(place / MODEL / model_file, features, evaluation) if task.features is None else None
    return Parsed(model_file=model_file, rows=_requests(evaluation.frame, features), read=read)


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the training's own predictions: a row each, with `probability` and `label`."""
    frame: pd.DataFrame = pq.read_table(path, columns=["probability", "label"]).to_pandas()
    return frame


def _read_model(path: Path, features: tuple[Feature, ...], evaluation: Snapshot) -> Read:
    model = OnnxModel.load(path)
    if {name for name, _ in model.inputs} != {feature.name for feature in features}:
        raise NotServable(
            f"the ONNX model takes {sorted(name for name, _ in model.inputs)} but the signature names"
            f" {sorted(feature.name for feature in features)}",
            next="log the ONNX model with the signature of the features it takes",
        )
    description = evaluation.description
    classes = label_columns(model, evaluation)
    index = classes.index(description.positive)
    return Read(
        features=tuple(feature.written() for feature in features),
        output=Output(target=description.target, classes=classes, positive=description.positive),
        onnx=Onnx(
            inputs=tuple(ModelInput.model_validate({"name": name, "dtype": dtype}) for name, dtype in model.inputs),
            label=model.outputs[0],
            probabilities=model.outputs[1],
            positive_index=index,
        ),
        golden=golden_rows(model, evaluation, features, positive_index=index),
    )


def _requests(frame: pd.DataFrame, features: tuple[Feature, ...]) -> tuple[dict[str, int | float | str], ...]:
    """Return the first rows as requests: of the features that the bundle takes, and nothing else."""
    columns = {each.name: [request_value(each, value) for value in frame[each.name].head(REQUEST_ROWS)]
               for each in features}  # fmt: skip
    names = list(columns)
    return tuple(dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _refuse_empty(frame: pd.DataFrame, features: tuple[Feature, ...]) -> None:
    """Refuse rows that nobody could ask: the service takes no empty value."""
    for feature in features:
        if feature.name not in frame.columns:
            raise NotServable(
                f"the evaluation set has no column {feature.name!r}, which the version takes",
                next="log an evaluation set with this version's features on its run",
            )
        empty = frame[feature.name].isna().to_numpy()
        if empty.any():
            raise NotServable(
                f"feature {feature.name!r} is empty in row {int(empty.argmax()) + 1} of the evaluation set,"
                f" in {int(empty.sum())} rows in all",
                next="fill it, or leave such rows out: the service takes no empty value",
            )


def _refuse_unreadable(path: Path, version: str) -> None:
    try:
        read_predictions(path)
    except MemoryError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise NotServable(
            f"slipway/predictions.parquet of {version} can't be read: {str(error)[:300]}",
            next="log the file that python -m pipelines.training.score writes",
        ) from error


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
                next="log slipway/evaluation.parquet with this version's features on its run",
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
