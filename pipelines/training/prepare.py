"""Cut the raw data into the snapshots for training, evaluation and drift; what can't be read for sure stops here."""

import pandas as pd

from pipelines.domain.description import Task, label_text
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.training.feature_rules import feature_of
from pipelines.training.model_file import ModelFile
from pipelines.training.places import divided, identities, identity_of
from pipelines.training.reading.columns import typed_frame, typed_label
from pipelines.training.reading.source import read_source, usable_rows
from pipelines.training.workspace import Workspace, report, run_stage


def prepare(workspace: Workspace) -> None:
    """Write the three snapshots of a working tree."""
    model = ModelFile.load(workspace.model_file)
    source = read_source(model.source, workspace.root)
    report(f"{source.name}: {len(source):,} rows, read with {source.told}")
    table = usable_rows(model, source)
    if left_out := len(source) - len(table):
        report(f"{left_out:,} rows without {model.target} are left out")
    frame = typed_frame(model, table)
    description = describe(model, frame)
    _refuse_two_classes(description)
    parts, known = divided(model, table, frame), identities(model, table)
    files = {"train": workspace.train, "evaluation": workspace.evaluation, "reference": workspace.reference}
    for name, rows in parts.named().items():
        digest = write_snapshot(files[name], frame[rows], description, None if known is None else known[rows])
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
        features=tuple(feature_of(name, rule, frame[name]) for name, rule in model.features.items()),
        protected=model.protected,
        task=model.kind,
        identity=identity_of(model),
    )


def _refuse_two_classes(description: SnapshotDescription) -> None:
    if description.task is Task.MULTICLASS and len(description.classes) == 2:
        one, other = (repr(label_text(each)) for each in description.classes)
        raise UsageError(
            f"target {description.target} holds two labels, {one} and {other}, and task: multiclass needs more",
            next="say in model.yaml which of them is positive, in place of the task",
        )


if __name__ == "__main__":
    raise SystemExit(run_stage(prepare))
