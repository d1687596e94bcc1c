"""Cut the raw data into the snapshots for training, evaluation and drift; a changed source stops here."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.training.model_file import ModelFile, Numeric
from pipelines.training.workspace import Workspace, report, run_stage


def prepare(workspace: Workspace) -> None:
    """Write the three snapshots of a working tree."""
    model = ModelFile.load(workspace.model_file)
    frame = typed_frame(model, raw_frame(model, workspace.root))
    description = describe(model, frame)
    train, evaluation = _divided(model, frame, model.split.evaluation)
    share_of_train = min(1.0, model.split.reference * len(frame) / len(train))
    reference = _divided(model, train, share_of_train)[1] if share_of_train < 1.0 else train
    parts = {workspace.train: train, workspace.evaluation: evaluation, workspace.reference: reference}
    for path, rows in parts.items():
        digest = write_snapshot(path, rows, description)
        report(f"{path.name}: {len(rows)} rows, {digest}")


def raw_frame(model: ModelFile, root: Path) -> pd.DataFrame:
    """Read the source as text, after its SHA-256 has proved to be the one in model.yaml."""
    path = root / model.source.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error}", next="restore it, or correct source.path") from error
    found = hashlib.sha256(content).hexdigest()
    if found != model.source.sha256:
        raise UsageError(
            f"{model.source.path} was changed: expected sha256 {model.source.sha256}, got {found}",
            next="restore the file, or write its new hash into model.yaml",
        )
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in (model.target, *model.features) if name not in frame.columns]
    known = {model.target, *model.features, *model.id_columns}
    strangers = [name for name in frame.columns if name not in known]
    if missing or strangers:
        raise UsageError(
            f"{model.source.path} lacks columns {missing} and has columns {strangers} without a role",
            next="give every column a role in model.yaml: target, id, numeric or categorical",
        )
    return frame


def typed_frame(model: ModelFile, raw: pd.DataFrame) -> pd.DataFrame:
    """Give every column its type; raise UsageError for a value that has no meaning in model.yaml."""
    columns: dict[str, pd.Series] = {}
    for name, rule in model.numeric.items():
        columns[name] = _numbers(name, rule, raw[name])
    for name, category in model.categorical.items():
        columns[name] = raw[name]
        allowed = category.categories or tuple(value for value in raw[name].unique() if value)
        _refuse(name, raw[name][~raw[name].isin(allowed)], "is not one of its categories")
    labels = raw[model.target].unique()
    if model.positive not in labels or len(labels) < 2 or "" in labels:
        raise UsageError(
            f"target {model.target} holds {sorted(labels)[:5]}",
            next=f"it needs at least two labels, no blank, and {model.positive!r} among them",
        )
    return pd.DataFrame({**columns, model.target: raw[model.target]})


def describe(model: ModelFile, frame: pd.DataFrame) -> SnapshotDescription:
    """Describe every feature by what model.yaml declares and, beside it, what the whole source shows."""
    features = []
    for name, rule in model.numeric.items():
        kind = FeatureType(rule.type)
        unit = int if kind is FeatureType.INTEGER else float
        minimum = None if rule.minimum is None else unit(rule.minimum)
        maximum = None if rule.maximum is None else unit(rule.maximum)
        observed = (unit(frame[name].min()), unit(frame[name].max()))
        features.append(Feature(name, kind, minimum, maximum, observed))
    for name, category in model.categorical.items():
        values = category.categories or tuple(sorted(frame[name].unique()))
        features.append(Feature(name, FeatureType.CATEGORY, categories=values))
    return SnapshotDescription(
        model=model.name,
        target=model.target,
        positive=model.positive,
        classes=tuple(sorted(frame[model.target].unique())),
        features=tuple(features),
        protected=model.protected,
    )


def _numbers(name: str, rule: Numeric, texts: pd.Series) -> pd.Series:
    stripped = texts.str.strip()
    if rule.blank is not None:
        stripped = stripped.mask(stripped == "", str(rule.blank))
    numbers = pd.to_numeric(stripped, errors="coerce").astype("float64")
    _refuse(name, texts[~np.isfinite(numbers)], "is not a number")
    if rule.minimum is not None:
        _refuse(name, texts[numbers < rule.minimum], f"is below the declared minimum {rule.minimum:g}")
    if rule.maximum is not None:
        _refuse(name, texts[numbers > rule.maximum], f"is above the declared maximum {rule.maximum:g}")
    if rule.type == "number":
        return numbers
    _refuse(name, texts[numbers != numbers.round()], "is not a whole number")
    return numbers.astype("int64")


def _refuse(name: str, wrong: pd.Series, why: str) -> None:
    if len(wrong):
        # The header is line 1 of the file.
        raise UsageError(
            f"column {name}: {wrong.iloc[0]!r} in line {wrong.index[0] + 2} {why} ({len(wrong)} such rows)",
            next="correct the data, or declare in model.yaml what it means",
        )


def _divided(model: ModelFile, frame: pd.DataFrame, share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    rest, part = train_test_split(frame, test_size=share, random_state=model.split.seed, stratify=frame[model.target])
    return rest, part


if __name__ == "__main__":
    raise SystemExit(run_stage(prepare))
