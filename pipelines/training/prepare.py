"""Cut the raw data into the snapshots for training, evaluation and drift; what can't be read for sure stops here."""

import pandas as pd

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.training.model_file import ModelFile, Numeric
from pipelines.training.places import divided
from pipelines.training.reading.columns import typed_frame
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
    features = []
    for name, rule in model.features.items():
        if isinstance(rule, Numeric):
            kind = FeatureType(rule.type)
            unit = int if kind is FeatureType.INTEGER else float
            minimum = None if rule.minimum is None else unit(rule.minimum)
            maximum = None if rule.maximum is None else unit(rule.maximum)
            observed = (unit(frame[name].min()), unit(frame[name].max()))
            features.append(Feature(name, kind, minimum, maximum, observed))
        else:
            values = rule.categories or tuple(sorted(frame[name].unique()))
            features.append(Feature(name, FeatureType.CATEGORY, categories=values))
    return SnapshotDescription(
        model=model.name,
        target=model.target,
        positive=model.positive,
        classes=tuple(sorted(frame[model.target].unique())),
        features=tuple(features),
        protected=model.protected,
    )


if __name__ == "__main__":
    raise SystemExit(run_stage(prepare))
