"""Small but real bundles for tests: a scikit-learn pipeline trained on synthetic rows and exported to ONNX.

`make_bundle(directory)` writes `directory/sha256-<hex>/` and returns its path and digest. The defaults are
reproducible: the same arguments give the same digest.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CLASSES = ["No", "Yes"]
POSITIVE = "Yes"
CATEGORIES = {"plan": ["basic", "plus", "pro"], "home_region": ["north", "south"]}
TYPES = {
    "age": "integer",
    "visits": "integer",
    "income": "number",
    "plan": "category",
    "home_region": "category",
}
DTYPES = {"age": "float32", "visits": "int64", "income": "float32", "plan": "string", "home_region": "string"}
NUMPY_TYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "string": np.object_}
TRAINING_ROWS = 200
GOLDEN_ROWS = 16

Row = dict[str, Any]


def valid_row(**changes: Any) -> Row:
    """Return a request that every toy bundle accepts, with `changes` applied."""
    return {"age": 41, "visits": 3, "income": 2450.5, "plan": "plus", "home_region": "south"} | changes


def make_bundle(
    directory: Path,
    *,
    model: str = "toy-model",
    seed: int = 0,
    extra_features: int = 0,
    wrong_golden: bool = False,
    fails_on_region: str | None = None,
) -> tuple[Path, str]:
    """Write a bundle below `directory`; return its path and its digest.

    Another `seed` is another model with the same schema. `extra_features` adds categories `extra_0`, ... .
    With `wrong_golden` every digest holds, but the expected probabilities are off by 0.25. The schema accepts
    the home region `fails_on_region`, but the model fails on it.
    """
    content, frame = _train(seed, extra_features)
    rows = _rows(frame.head(GOLDEN_ROWS))
    expected = score(content, rows)
    if wrong_golden:
        for answer in expected:
            answer["probability"] = abs(answer["probability"] - 0.25)
    description: dict[str, Any] = {
        "schema_version": 1,
        "model": model,
        "features": [_feature(str(name), frame[name]) for name in frame.columns],
        "output": {"target": "churned", "classes": CLASSES, "positive": POSITIVE},
        "onnx": {
            "inputs": [{"name": name, "dtype": DTYPES.get(str(name), "string")} for name in frame.columns],
            "label": "label",
            "probabilities": "probabilities",
            "positive_index": CLASSES.index(POSITIVE),
        },
        "golden": {"rows": rows, "expected": expected, "tolerance": 1e-5},
        "provenance": {
            "run_id": f"toy-run-{seed}",
            "git_commit": "0" * 40,
            "datasets": {"train": sha256(b"train"), "evaluation": sha256(b"evaluation")},
            "dependencies": sha256(b"dependencies"),
        },
        "files": {"model.onnx": sha256(content)},
    }
    if fails_on_region is not None:
        region = next(each for each in description["features"] if each["name"] == "home_region")
        region["categories"].append(fails_on_region)
    return write_bundle(directory, description, content)


def write_bundle(directory: Path, description: dict[str, Any], content: bytes) -> tuple[Path, str]:
    """Write `description` in canonical form and `content` as model.onnx; return the path and the digest."""
    canonical = json.dumps(
        description, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
    digest = sha256(canonical)
    path = directory / digest.replace(":", "-")
    path.mkdir(parents=True, exist_ok=True)
    (path / "bundle.json").write_bytes(canonical)
    (path / "model.onnx").write_bytes(content)
    return path, digest


def with_model(bundle: Path, content: bytes) -> tuple[Path, str]:
    """Write a bundle beside another that differs in its model alone; return its path and its digest."""
    description = read_description(bundle)
    description["files"]["model.onnx"] = sha256(content)
    return write_bundle(bundle.parent, description, content)


def read_description(path: Path) -> dict[str, Any]:
    """Return bundle.json of the bundle at `path`."""
    description: dict[str, Any] = json.loads((path / "bundle.json").read_bytes())
    return description


def score(content: bytes, rows: list[Row]) -> list[dict[str, Any]]:
    """Return what the ONNX model answers to each row, computed apart from the service's own code."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {
        each.name: np.array([[row[each.name]] for row in rows], dtype=NUMPY_TYPES[DTYPES.get(each.name, "string")])
        for each in session.get_inputs()
    }
    labels, probabilities = session.run(["label", "probabilities"], feed)
    return [
        {"prediction": str(label), "probability": float(pair[CLASSES.index(POSITIVE)])}
        for label, pair in zip(labels, probabilities, strict=True)
    ]


@lru_cache(maxsize=8)
def _train(seed: int, extra_features: int) -> tuple[bytes, pd.DataFrame]:
    frame = _synthetic(seed, extra_features)
    signal = frame["income"] / 1000 - frame["visits"] + (frame["plan"] == "pro") * 2
    noise = np.random.default_rng(seed + 1).normal(0, 1, len(frame))
    target = np.where(signal + noise > signal.median(), "Yes", "No")
    texts = [name for name in frame.columns if DTYPES.get(str(name), "string") == "string"]
    pipeline = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numbers", StandardScaler(), ["age", "income"]),
                        ("counts", StandardScaler(), ["visits"]),
                        ("texts", OneHotEncoder(), texts),
                    ]
                ),
            ),
            ("estimator", LogisticRegression()),
        ]
    ).fit(frame, target)
    kinds = {"float32": FloatTensorType, "int64": Int64TensorType, "string": StringTensorType}
    proto = convert_sklearn(
        pipeline,
        name="toy",
        initial_types=[(name, kinds[DTYPES.get(str(name), "string")]([None, 1])) for name in frame.columns],
        options={id(pipeline): {"zipmap": False}},
    )
    return proto.SerializeToString(deterministic=True), frame


def _synthetic(seed: int, extra_features: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "age": random.integers(18, 90, TRAINING_ROWS),
        "visits": random.integers(0, 10, TRAINING_ROWS),
        "income": random.normal(2500, 800, TRAINING_ROWS).round(2),
    }
    for name, values in CATEGORIES.items():
        columns[name] = random.choice(values, TRAINING_ROWS)
    for number in range(extra_features):
        columns[f"extra_{number}"] = random.choice(["No", "Yes", "No service"], TRAINING_ROWS)
    return pd.DataFrame(columns)


def _feature(name: str, values: "pd.Series[Any]") -> dict[str, Any]:
    if TYPES.get(name, "category") == "category":
        return {"name": name, "type": "category", "categories": sorted(values.unique().tolist())}
    observed = {"minimum": values.min().item(), "maximum": values.max().item()}
    return {
        "name": name,
        "type": TYPES[name],
        "minimum": 0 if TYPES[name] == "integer" else None,
        "maximum": 120 if name == "age" else None,
        "observed": observed,
    }


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [
        {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def sha256(content: bytes) -> str:
    """Return `sha256:<hex>` of `content`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
