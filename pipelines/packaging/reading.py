"""Reads the files of a registered version, inside of a confined job: what a bundle says of its model is from here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Onnx, Output, Task, Value
from pipelines.errors import NotServable
from pipelines.packaging.confined import (
    EVALUATION,
    MODEL,
    PREDICTIONS,
    REFERENCE,
    REQUEST_ROWS,
    TRAINING_ROWS,
    PackagingTask,
    Parsed,
    Read,
    without_rows,
)
from pipelines.packaging.golden import golden_rows, label_columns
from pipelines.packaging.mlmodel import read_mlmodel
from pipelines.packaging.onnx_bounds import refuse_unbounded
from pipelines.packaging.onnx_model import OnnxModel, ServedModel
from pipelines.packaging.served import model_values, request_value
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.packaging.training_rows import TrainingRows

# What a column of a signature may hold, by its type there.
_TYPES = {
    "long": (FeatureType.INTEGER,),
    "integer": (FeatureType.INTEGER,),
    "double": (FeatureType.NUMBER, FeatureType.INTEGER),
    "float": (FeatureType.NUMBER, FeatureType.INTEGER),
    "boolean": (FeatureType.BOOLEAN,),
    "string": (FeatureType.CATEGORY, FeatureType.TEXT, FeatureType.DATE, FeatureType.DATETIME),
    "datetime": (FeatureType.DATETIME, FeatureType.DATE),
    # MLflow converts nothing of such a column: what it may hold is known of the evaluation set alone.
    "any": tuple(FeatureType),
}

_PREDICTED = ("label", "probability", "value")


def read_version(task: PackagingTask, place: Path) -> Parsed:
    """Return what the files in `place` say; raise NotServable for what can't be served, by name."""
    model_file, input_types = read_mlmodel(place / MODEL, task.version, model=task.model, number=task.number)
    if not (place / EVALUATION).exists():
        raise without_rows(task.version)
    evaluation = read_snapshot(place / EVALUATION)
    if task.features is None:
        features = _features(input_types, evaluation.description)
    else:
        features = tuple(map(Feature.read, task.features))
    refuse_missing_truth(evaluation)
    refuse_unasked(evaluation.frame, features)
    if task.predictions:
        _refuse_unreadable(place / PREDICTIONS, task.version)
    if task.training_rows:
        TrainingRows.read(place / TRAINING_ROWS)
    if task.reference:
        _refuse_odd_reference(place / REFERENCE, evaluation)
    read = read_model(place / MODEL / model_file, features, evaluation) if task.features is None else None
    return Parsed(model_file=model_file, rows=_requests(evaluation.frame, features), read=read)


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the training's own predictions, a row each.

    That is `label` with `probability` (of the positive class) or `probability:CLASS` for each, or `value`.
    """
    names = [name for name in pq.read_schema(path).names if name in _PREDICTED or name.startswith("probability:")]
    if not names:
        raise ValueError(f"it has none of the columns {', '.join(_PREDICTED)}")
    frame: pd.DataFrame = pq.read_table(path, columns=names).to_pandas()
    return frame


def read_model(path: Path, features: tuple[Feature, ...], evaluation: Snapshot) -> Read:
    """Return what a bundle says of an ONNX model with these features; raise NotServable for what can't be served."""
    opened = OnnxModel.load(path)
    refuse_unbounded(path.read_bytes())
    model = ServedModel.wired(opened, features)
    output = _output(model, evaluation)
    return Read(
        task=evaluation.description.task,
        features=tuple(feature.written() for feature in features),
        output=output,
        onnx=Onnx(inputs=model.inputs, label=opened.label, probabilities=opened.probabilities, value=opened.value),
        golden=golden_rows(model, evaluation, output),
    )


def _output(model: ServedModel, evaluation: Snapshot) -> Output:
    description = evaluation.description
    if (model.model.value is not None) is not (description.task is Task.REGRESSION):
        held = "a regression" if model.model.value is not None else "a classifier"
        raise NotServable(
            f"the ONNX model is {held}, but the evaluation set is of a {description.task} model",
            next="log slipway/evaluation.parquet of this version's own task on its run",
        )
    if description.task is Task.REGRESSION:
        return Output(target=description.target, classes=(), positive=None)
    classes = label_columns(model.score(evaluation.frame), description.classes, model.model.classes)
    return Output(target=description.target, classes=classes, positive=description.positive)


def _requests(frame: pd.DataFrame, features: tuple[Feature, ...]) -> tuple[dict[str, Value], ...]:
    """Return the first rows as requests: of the features that the bundle takes, and nothing else."""
    columns = {each.name: [request_value(each, value) for value in frame[each.name].head(REQUEST_ROWS)]
               for each in features}  # fmt: skip
    names = list(columns)
    return tuple(dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))


def refuse_missing_truth(evaluation: Snapshot) -> None:
    """Refuse an evaluation set with a row of which nobody says what is true of it: it judges no answer."""
    target, name = evaluation.target, evaluation.description.target
    odd = target.isna().to_numpy()
    if evaluation.description.task is Task.REGRESSION:
        odd = odd | ~np.isfinite(pd.to_numeric(target, errors="coerce").to_numpy(dtype=np.float64))
    if odd.any():
        row = int(odd.argmax())
        held = "empty" if pd.isna(target.iloc[row]) else f"{str(target.iloc[row])[:60]!r}, no finite number,"
        raise NotServable(
            f"the target {name!r} is {held} in row {row + 1} of the evaluation set, in {int(odd.sum())} rows in all",
            next="say what is true of these rows, or leave them out",
        )


def refuse_unasked(frame: pd.DataFrame, features: tuple[Feature, ...]) -> None:
    """Refuse rows that nobody could ask: the service takes no empty value where none is declared."""
    for feature in features:
        if feature.name not in frame.columns:
            raise NotServable(
                f"the evaluation set has no column {feature.name!r}, which the version takes",
                next="log an evaluation set with this version's features on its run",
            )
        _refuse_odd(frame[feature.name], feature)
        empty = frame[feature.name].isna().to_numpy()
        if empty.any() and not feature.nullable:
            raise NotServable(
                f"feature {feature.name!r} is empty in row {int(empty.argmax()) + 1} of the evaluation set,"
                f" in {int(empty.sum())} rows in all",
                next="fill it, leave such rows out, or declare it nullable in the evaluation set",
            )


def _refuse_odd(column: "pd.Series[Any]", feature: Feature, where: str = "evaluation set") -> None:
    """Refuse a value that is not of its feature's type, or no finite number, by its row."""
    row = _odd_row(column, feature)
    if row is not None:
        raise NotServable(
            f"feature {feature.name!r} is {str(column.iloc[row])[:60]!r} in row {row + 1} of the {where},"
            f" and its type is {feature.type}",
            next=f"correct the value, or log the {where} with the feature's right type",
        )


def _odd_row(column: "pd.Series[Any]", feature: Feature) -> int | None:
    try:
        values = model_values(column, feature)
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        if len(column) == 1:
            return 0
        return next(row for row in range(len(column)) if _odd_row(column.iloc[[row]], feature) is not None)
    if feature.type.is_text:
        odd = np.array([not isinstance(value, str) for value in values], dtype=bool)
    else:
        odd = ~np.isfinite(values)
        if feature.type is FeatureType.INTEGER:
            odd |= values != np.round(values)
        odd &= column.notna().to_numpy()
    return int(odd.argmax()) if odd.any() else None


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


def _refuse_odd_reference(path: Path, evaluation: Snapshot) -> None:
    """Refuse rows of another task, or with values that are none: drift can't be measured against them."""
    reference = read_snapshot(path)
    description = reference.description
    if description.task is not evaluation.description.task:
        raise NotServable(
            f"slipway/{path.name} is of a {description.task} model, and the evaluation set of a"
            f" {evaluation.description.task} one",
            next="log the reference of this version's own training, or none",
        )
    for feature in description.features:
        _refuse_odd(reference.frame[feature.name], feature, "reference")


def _features(input_types: Mapping[str, str], description: SnapshotDescription) -> tuple[Feature, ...]:
    """Type every column by the signature; what else is known of it comes from the evaluation set."""
    known = {feature.name: feature for feature in description.features}
    features = []
    for name, type_name in input_types.items():
        if type_name not in _TYPES:
            raise NotServable(
                f"feature {name!r} has the type {type_name} in the signature",
                next=f"use one of {', '.join(_TYPES)}",
            )
        feature = known.get(name)
        kind = None if feature is None else _kind(feature, type_name)
        if feature is None or kind is None:
            held = "no such column" if feature is None else f"a {feature.type}"
            raise NotServable(
                f"feature {name!r} is a {type_name}, but the evaluation set holds {held}",
                next="log slipway/evaluation.parquet with this version's features on its run",
            )
        features.append(replace(feature, type=kind))
    return tuple(features)


def _kind(held: Feature, type_name: str) -> FeatureType | None:
    """Return what a column is by a signature and an evaluation set, None where they contradict each other."""
    meant = _TYPES[type_name]
    if held.type not in meant:
        return None
    # Whole numbers may feed a model that takes any number, but not the other way round; a column of whole numbers with
    # missing ones is one of numbers in every signature.
    if meant[0] is FeatureType.NUMBER and held.type is FeatureType.INTEGER and not held.nullable:
        return FeatureType.NUMBER
    return held.type
