"""Fit the estimator of model.yaml on the training snapshot and export it to ONNX.

The model sees numbers as float32, as the served one does: else a tree could send a value that lies next to
a threshold to the other side.
"""

import importlib
import inspect
import io
import json
import re
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipelines.domain.bundle import FeatureType
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import SnapshotDescription, read_snapshot
from pipelines.training.export import to_onnx
from pipelines.training.model_file import Estimator, ModelFile, Numeric
from pipelines.training.workspace import Workspace, run_stage

# Estimators that compare one value with a threshold: scaling changes nothing for them but the rounding.
_THRESHOLD_MODULES = ("sklearn.tree", "sklearn.ensemble")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def train(workspace: Workspace) -> None:
    """Fit the model of a working tree; write it as skops and as ONNX."""
    model = ModelFile.load(workspace.model_file)
    snapshot = read_snapshot(workspace.train)
    pipeline = build_pipeline(model, snapshot.description)
    pipeline.fit(as_served(snapshot.features, snapshot.description), snapshot.target.to_numpy(dtype=object))
    workspace.onnx_model.parent.mkdir(parents=True, exist_ok=True)
    workspace.sklearn_model.write_bytes(stable_skops(pipeline))
    workspace.onnx_model.write_bytes(to_onnx(pipeline, snapshot.description))


def build_pipeline(model: ModelFile, description: SnapshotDescription) -> Pipeline:
    """Return the unfitted pipeline: categories one-hot, numbers scaled except for threshold estimators."""
    choices: dict[str, Any] = {
        item.name: np.array(item.categories, dtype=object)
        for item in description.features
        if item.type is FeatureType.CATEGORY
    }
    flags = {name: _whole_numbers(rule) for name, rule in model.numeric.items() if rule.one_hot}
    numbers = [name for name in model.numeric if name not in flags]
    scaled = not model.estimator.path.startswith(_THRESHOLD_MODULES)
    steps: list[tuple[str, Any, list[str]]] = []
    if numbers:
        steps.append(("numbers", StandardScaler() if scaled else "passthrough", numbers))
    for name, values in (("flags", flags), ("categories", choices)):
        if values:
            encoder = OneHotEncoder(categories=list(values.values()), dtype=np.float32, sparse_output=False)
            steps.append((name, encoder, list(values)))
    estimator = _estimator(model.estimator, model.split.seed)
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


def _estimator(rule: Estimator, seed: int) -> ClassifierMixin:
    module, _, name = rule.path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"estimator {rule.path} does not exist", next="give a scikit-learn class by its import path"
        ) from error
    if not inspect.isclass(kind):
        raise UsageError(f"estimator {rule.path} is not a class", next="name a scikit-learn classifier")
    known = inspect.signature(kind).parameters
    strangers = sorted(set(rule.parameters) - set(known))
    if strangers:
        raise UsageError(f"estimator {rule.path} has no parameters {strangers}", next="correct model.yaml")
    seeded = {"random_state": seed} if "random_state" in known else {}
    estimator = kind(**{**seeded, **rule.parameters})
    if not (is_classifier(estimator) and hasattr(estimator, "predict_proba")):
        raise UsageError(f"estimator {rule.path} gives no probabilities", next="choose a classifier with predict_proba")
    checked: ClassifierMixin = estimator
    return checked


if __name__ == "__main__":
    raise SystemExit(run_stage(train))
