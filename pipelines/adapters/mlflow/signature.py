"""The signature of a model in MLflow's words."""

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.packaging.snapshot import SnapshotDescription

_TYPES = {
    FeatureType.INTEGER: DataType.long,
    FeatureType.NUMBER: DataType.double,
    FeatureType.BOOLEAN: DataType.boolean,
    FeatureType.CATEGORY: DataType.string,
    FeatureType.TEXT: DataType.string,
    FeatureType.DATE: DataType.datetime,
    FeatureType.DATETIME: DataType.datetime,
}


def signature_of(description: SnapshotDescription, *, probabilities: bool = True) -> ModelSignature:
    """Return a column for each feature, and what a model answers: without `probabilities` a classifier's label only."""
    inputs = Schema([_column(feature) for feature in description.features])
    if description.task is Task.REGRESSION:
        return ModelSignature(inputs, Schema([ColSpec(DataType.double, "value")]))
    beside = [ColSpec(Array(DataType.float), "probabilities")] if probabilities else []
    return ModelSignature(inputs, Schema([ColSpec(DataType.string, "label"), *beside]))


def _column(feature: Feature) -> ColSpec:
    # What may be missing is no whole number to pandas.
    kind = DataType.double if feature.nullable and feature.type is FeatureType.INTEGER else _TYPES[feature.type]
    return ColSpec(kind, feature.name, required=not feature.nullable)
