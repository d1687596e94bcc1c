"""Cut the raw data into the snapshots for training, evaluation and drift; what can't be read for sure stops here."""

from dataclasses import replace
from typing import Any

import pandas as pd

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.training.feature_rules import Categorical, Numeric, Rule, Text
from pipelines.training.model_file import ModelFile
from pipelines.training.places import divided
from pipelines.training.reading.columns import typed_frame, typed_label
from pipelines.training.reading.source import check_columns, read_source
from pipelines.training.workspace import Workspace, report, run_stage


def prepare(workspace: Workspace) -> None:
    """Write the three snapshots of a working tree."""
    model = ModelFile.load(workspace.model_file)
    table = read_source(model.source, workspace.root)
    report(f"{table.name}: {len(table):,} rows, read with {table.told}")
    check_columns(model, table)
    frame = typed_frame(model, table)
    description = describe(model, frame)
    parts = divided(model, table, frame)
    files = {"train": workspace.train, "evaluation": workspace.evaluation, "reference": workspace.reference}
    for name, rows in parts.named().items():
        digest = write_snapshot(files[name], frame[rows], description)
        report(f"{files[name].name}: {rows.sum()} rows, {digest}")


def describe(model: ModelFile, frame: pd.DataFrame) -> SnapshotDescription:
    """Describe every feature by what model.yaml declares and, beside it, what the whole source shows."""
    classifies = model.kind is not Task.REGRESSION
    labels = sorted(frame[model.target].unique()) if classifies else []
    return SnapshotDescription(
        model=model.name,
        target=model.target,
        positive=model.positive,
        classes=tuple(typed_label(label, model.label_type) for label in labels),
        features=tuple(_feature(name, rule, frame[name]) for name, rule in model.features.items()),
        protected=model.protected,
        task=model.kind,
    )


def _feature(name: str, rule: Rule, column: "pd.Series[Any]") -> Feature:
    kind = FeatureType(rule.type)
    feature = Feature(name, kind, nullable=rule.nullable)
    if isinstance(rule, Numeric):
        unit = int if kind is FeatureType.INTEGER else float
        minimum, maximum = (None if bound is None else unit(bound) for bound in (rule.minimum, rule.maximum))
        known = column.dropna()
        observed = (unit(known.min()), unit(known.max())) if len(known) else None
        return replace(feature, minimum=minimum, maximum=maximum, observed=observed)
    if isinstance(rule, Categorical):
        return replace(feature, categories=rule.categories or tuple(sorted(column.dropna().unique())))
    return replace(feature, maximum_length=rule.maximum_length) if isinstance(rule, Text) else feature


if __name__ == "__main__":
    raise SystemExit(run_stage(prepare))
