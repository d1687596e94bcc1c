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
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipelines.domain.bundle import FeatureType
from pipelines.errors import UsageError
from pipelines.packaging.onnx_model import refuse_unspeakable
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot
from pipelines.training.estimators import build, fit
from pipelines.training.export import to_onnx
from pipelines.training.model_file import ModelFile, Numeric
from pipelines.training.parts import needs_numeric_labels, needs_scaling
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
    estimator = build(model.estimator, description.features, seed=model.split.seed, root=workspace.root)
    labels = snapshot.target.to_numpy(dtype=object)
    if needs_numeric_labels(estimator):
        labels = np.searchsorted(np.array(description.classes, dtype=object), labels)
    pipeline = build_pipeline(model, description, estimator)
    fit(pipeline, as_served(snapshot.features, description), labels, model.estimator)
    workspace.onnx_model.parent.mkdir(parents=True, exist_ok=True)
    workspace.sklearn_model.write_bytes(stable_skops(pipeline))
    workspace.onnx_model.write_bytes(to_onnx(pipeline, description))


def build_pipeline(model: ModelFile, description: SnapshotDescription, estimator: ClassifierMixin) -> Pipeline:
    """Return the unfitted pipeline of `estimator`: categories one-hot, numbers scaled except before thresholds.

    An estimator that takes the columns themselves stands alone in it.
    """
    if not model.estimator.encoded:
        return Pipeline([("estimator", estimator)])
    choices: dict[str, Any] = {
        item.name: np.array(item.categories, dtype=object)
        for item in description.features
        if item.type is FeatureType.CATEGORY
    }
    flags = {name: _whole_numbers(rule) for name, rule in model.numeric.items() if rule.one_hot}
    numbers = [name for name in model.numeric if name not in flags]
    scaled = needs_scaling(estimator)
    steps: list[tuple[str, Any, list[str]]] = []
    if numbers:
        steps.append(("numbers", StandardScaler() if scaled else "passthrough", numbers))
    for name, values in (("flags", flags), ("categories", choices)):
        if values:
            encoder = OneHotEncoder(categories=list(values.values()), dtype=np.float32, sparse_output=False)
            steps.append((name, encoder, list(values)))
    return Pipeline([("features", ColumnTransformer(steps)), ("estimator", estimator)])


def as_served(features: pd.DataFrame, description: SnapshotDescription) -> pd.DataFrame:
    """Return the columns as the model takes them: float32 for every number, text objects for categories."""
    columns = {}
    for feature in description.features:
        kind = object if feature.type is FeatureType.CATEGORY else np.float32
        columns[feature.name] = features[feature.name].to_numpy().astype(kind)
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
    missing = sorted(set(snapshot.description.classes) - set(snapshot.target))
    if missing:
        raise UsageError(
            f"no training row has {snapshot.description.target} {', '.join(map(repr, missing))}",
            next="give it more rows, or take the label out of the data",
        )


if __name__ == "__main__":
    raise SystemExit(run_stage(train))
