"""A small mixed data set of its own, with its model.yaml, and the way through the training stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pipelines.packaging.snapshot import read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.training.prepare import prepare
from pipelines.training.score import score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace

ROWS = 400
# So many of them evaluate, by the hash of their tags.
EVALUATION_ROWS = 106
STAGES = (prepare, train, score)
# Few and small trees: their export to ONNX takes longer than all else.
GRADIENT_BOOSTING = {
    "path": "sklearn.ensemble.HistGradientBoostingClassifier",
    "parameters": {"max_iter": 15, "max_leaf_nodes": 6, "learning_rate": 0.3},
}


def plants(rows: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """Return invented plants: does one flower? As text, as a CSV file holds it."""
    draw = np.random.default_rng(seed)
    height = draw.normal(50.0, 17.3, rows).round(3)
    age = draw.integers(1, 9, rows)
    soil = draw.choice(["clay", "loam", "sand"], rows)
    potted = draw.integers(0, 2, rows)
    odds = 0.06 * (height - 50.0) + 0.5 * (age - 4) + (soil == "loam") * 1.2 - potted
    flowers = np.where(draw.random(rows) < 1.0 / (1.0 + np.exp(-odds)), "flowers", "green")
    frame = pd.DataFrame({"tag": range(rows), "height": height, "age": age, "soil": soil, "potted": potted})
    return frame.assign(outcome=flowers).astype(str)


def describe(path: str, **changes: Any) -> dict[str, Any]:
    """Return the content of a model.yaml for `plants`."""
    body = {
        "name": "plant-model",
        "source": {"path": path},
        "target": "outcome",
        "positive": "flowers",
        "id_columns": ["tag"],
        "features": {
            "height": {"type": "number", "blank": 0.0},
            "age": {"type": "integer", "minimum": 1, "maximum": 20},
            "potted": {"type": "integer", "minimum": 0, "maximum": 1, "one_hot": True},
            "soil": {"type": "category"},
        },
        "protected": ["potted"],
        "split": {"evaluation": 0.25, "reference": 0.5, "seed": 3},
        "estimator": {"path": "sklearn.linear_model.LogisticRegression"},
    }
    return {**body, **changes}


def workspace(root: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Workspace:
    """Write data and model.yaml into `root`, nothing more."""
    csv = (plants() if frame is None else frame).to_csv(index=False).encode()
    (root / "raw").mkdir(parents=True, exist_ok=True)
    (root / "raw/plants.csv").write_bytes(csv)
    text = yaml.safe_dump(describe("raw/plants.csv", **changes), sort_keys=False)
    (root / "model.yaml").write_text(text, encoding="utf-8")
    return Workspace(root)


def trained(root: Path, **changes: Any) -> Workspace:
    """Write data and model.yaml into `root`, run all stages, and write which rows were trained on."""
    made = workspace(root, **changes)
    for stage in STAGES:
        stage(made)
    TrainingRows.of(read_snapshot(made.train)).write(root / "models/training-rows.parquet")
    return made
