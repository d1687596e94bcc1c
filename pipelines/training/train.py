"""Fit the estimator of model.yaml on the training snapshot and export it to ONNX.

The model sees numbers as float32, as the served one does: else a tree could send a value that lies next to
a threshold to the other side.
"""

import io
import json
import re
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipelines.domain.bundle import FeatureType
from pipelines.domain.description import Task, label_text
from pipelines.errors import UsageError
from pipelines.packaging.onnx_model import refuse_unspeakable
from pipelines.packaging.served import model_values
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.training.estimators import build, fit
from pipelines.training.export import DAY_S, columns_of, to_onnx
from pipelines.training.feature_rules import Numeric
from pipelines.training.model_file import ModelFile
from pipelines.training.parts import needs_numeric_labels, needs_scaling, takes_missing
from pipelines.training.workspace import Workspace, run_stage

_EPOCH = (1980, 1, 1, 0, 0, 0)


def train(workspace: Workspace) -> None:
    """Fit the model of a working tree; write it as skops and as ONNX."""
    model = ModelFile.load(workspace.model_file)
    snapshot = read_snapshot(workspace.train)
    description = snapshot.description
    _refuse_missing_class(snapshot)
    for name in description.columns:
        refuse_unspeakable(name)
    estimator = build(
        model.estimator, description.features, task=description.task, seed=model.split.seed, root=workspace.root
    )
    target: NDArray[Any] = snapshot.target.to_numpy()
    if description.task is not Task.REGRESSION and needs_numeric_labels(estimator):
        target = np.searchsorted(np.array(list(map(label_text, description.classes)), dtype=object), target)
    pipeline = build_pipeline(model, description, estimator)
    fit(pipeline, as_served(snapshot.features, description), target, model.estimator, root=workspace.root)
    workspace.onnx_model.parent.mkdir(parents=True, exist_ok=True)
    workspace.sklearn_model.write_bytes(stable_skops(pipeline))
    workspace.onnx_model.write_bytes(to_onnx(pipeline, description))


def build_pipeline(model: ModelFile, description: SnapshotDescription, estimator: BaseEstimator) -> Pipeline:
    """Return the unfitted pipeline of `estimator`: categories one-hot, numbers scaled except before thresholds.

    What may be missing is filled with the median, unless the estimator takes missing values itself. An estimator that
    takes the columns themselves stands alone in it.
    """
    if not model.estimator.encoded:
        return Pipeline([("estimator", estimator)])
    _refuse_texts(description)
    numbers, gaps, truths = list[str](), list[str](), list[str]()
    flags, choices = dict[str, Any](), dict[str, Any]()
    for feature in description.features:
        rule = model.features[feature.name]
        if feature.type is FeatureType.CATEGORY:
            missing = ("",) if feature.nullable else ()
            choices[feature.name] = np.array([*missing, *feature.categories], dtype=object)
        elif isinstance(rule, Numeric) and rule.one_hot:
            flags[feature.name] = _whole_numbers(rule)
        elif feature.nullable and not takes_missing(estimator):
            gaps += columns_of(feature)
        else:
            (truths if feature.type is FeatureType.BOOLEAN else numbers).extend(columns_of(feature))
    scaling = needs_scaling(estimator)
    filling: list[tuple[str, Any]] = [("filled", SimpleImputer(strategy="median"))]
    steps: list[tuple[str, Any, list[str]]] = []
    for name, step, columns in (
        ("numbers", StandardScaler() if scaling else "passthrough", numbers),
        ("truths", "passthrough", truths),
        ("gaps", Pipeline(filling + [("scaled", StandardScaler())] * scaling), gaps),
    ):
        if columns:
            steps.append((name, step, columns))
    for name, values in (("flags", flags), ("categories", choices)):
        if values:
            encoder = OneHotEncoder(categories=list(values.values()), dtype=np.float32, sparse_output=False)
            steps.append((name, encoder, list(values)))
    return Pipeline([("features", ColumnTransformer(steps)), ("estimator", estimator)])


def as_served(features: pd.DataFrame, description: SnapshotDescription) -> pd.DataFrame:
    """Return the columns as the model takes them: float32 for every number, text objects for categories and texts.

    A time is two of them, its day and the second of that day: each is exact in float32, and one number is not.
    """
    columns: dict[str, NDArray[Any]] = {}
    for feature in description.features:
        values = model_values(features[feature.name], feature)
        if feature.type is FeatureType.DATETIME:
            day, second = columns_of(feature)
            columns[day] = np.floor(values / DAY_S).astype(np.float32)
            columns[second] = (values - np.floor(values / DAY_S) * DAY_S).astype(np.float32)
        else:
            columns[feature.name] = values if feature.type.is_text else values.astype(np.float32)
    return pd.DataFrame(columns)


def stable_skops(pipeline: Pipeline) -> bytes:
    """Return the skops form of `pipeline`, equal for equal models.

    skops numbers objects by their memory address and stamps the time of day; both are replaced.
    """
    source = zipfile.ZipFile(io.BytesIO(skops.io.dumps(pipeline)))
    schema = source.read("schema.json").decode()
    addresses = dict.fromkeys(re.findall(r'"__id__": (\d+)|"file": "(\d+)\.npy"', schema))
    order: dict[str, str] = {}
    for pair in addresses:
        order.setdefault(pair[0] or pair[1], str(len(order) + 1))
    schema = re.sub(r'("__id__": )(\d+)', lambda match: match[1] + order[match[2]], schema)
    schema = re.sub(r'("file": ")(\d+)(\.npy")', lambda match: match[1] + order[match[2]] + match[3], schema)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        renamed = {}
        for name in set(source.namelist()) - {"schema.json"}:
            stem, _, suffix = name.partition(".")
            renamed[f"{order.get(stem, stem)}.{suffix}"] = name
        for new, old in sorted(renamed.items()):
            archive.writestr(zipfile.ZipInfo(new, _EPOCH), source.read(old))
        archive.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(json.loads(schema)))
    return target.getvalue()


def load_trained(content: bytes) -> Pipeline:
    """Read what `stable_skops` wrote; only for bytes that this training run has produced itself."""
    pipeline = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    assert isinstance(pipeline, Pipeline)
    return pipeline


def _whole_numbers(rule: Numeric) -> NDArray[np.float32]:
    assert rule.minimum is not None and rule.maximum is not None
    return np.arange(rule.minimum, rule.maximum + 1, dtype=np.float32)


def _refuse_missing_class(snapshot: Snapshot) -> None:
    missing = sorted({label_text(each) for each in snapshot.description.classes} - set(snapshot.target))
    if missing:
        raise UsageError(
            f"no training row has {snapshot.description.target} {', '.join(map(repr, missing))}",
            next="give it more rows, or take the label out of the data",
        )


def _refuse_texts(description: SnapshotDescription) -> None:
    texts = [feature.name for feature in description.features if feature.type is FeatureType.TEXT]
    if texts:
        raise UsageError(
            f"features {', '.join(map(repr, texts))} are texts, which nothing here encodes",
            next="declare them as category, put them under ignore, or encode them in an estimator of your own"
            " (encoded: false)",
        )


if __name__ == "__main__":
    raise SystemExit(run_stage(train))
