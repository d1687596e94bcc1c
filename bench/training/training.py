"""How long training, export and the comparison of both forms take, on a set as people have it."""

import hashlib
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from bench.support.stages import run_module
from pipelines.training.workspace import STAGE_ENVIRON

ROWS = 100_000
NUMBERS = 26
TEXTS = 4
CATEGORIES = 12
ESTIMATORS: dict[str, dict[str, Any]] = {
    "linear": {"path": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 1000}},
    "trees": {"path": "sklearn.ensemble.HistGradientBoostingClassifier"},
}
_STAGE_S = 900.0


def measure(place: Place) -> Measured:
    """Cut the set once, then train and score it by each estimator, each stage being a process of its own."""
    tree = place.workdir / "tree"
    source = _write_source(tree)
    figures: dict[str, float] = {}
    for name, estimator in ESTIMATORS.items():
        (tree / "model.yaml").write_text(yaml.safe_dump(_described(source, estimator), sort_keys=False))
        if "prepare_s" not in figures:
            figures["prepare_s"], figures["prepare_cpu_s"] = _run(place, "prepare", tree)
        train, score = _run(place, "train", tree), _run(place, "score", tree)
        figures |= {f"{name}_train_s": train[0], f"{name}_score_s": score[0], f"{name}_s": train[0] + score[0]}
        figures[f"{name}_cpu_s"] = train[1] + score[1]
        place.report_progress(f"{name}: {figures[f'{name}_s']:.1f} s")
    return Measured(
        about=f"{ROWS:,} rows of {NUMBERS} numbers and {TEXTS} texts of {CATEGORIES} categories, a quarter of them for"
        " evaluation: LogisticRegression and HistGradientBoostingClassifier trained and exported (train), and both"
        " forms compared on the evaluation rows (score)",
        figures=figures,
        limits=tuple(Limit(f"{name}_s", Bound.AT_MOST, 60) for name in ESTIMATORS),
    )


def _write_source(tree: Path) -> Path:
    draw = np.random.default_rng(1)
    numbers = draw.normal(size=(ROWS, NUMBERS)).round(4)
    texts = draw.integers(0, CATEGORIES, size=(ROWS, TEXTS))
    odds = numbers[:, :8] @ draw.normal(size=8) + draw.normal(size=CATEGORIES)[texts[:, 0]]
    frame = pd.DataFrame(numbers, columns=[f"number {position}" for position in range(NUMBERS)])
    for position in range(TEXTS):
        frame[f"text {position}"] = [f"category {value}" for value in texts[:, position]]
    frame["answer"] = np.where(draw.random(ROWS) < 1.0 / (1.0 + np.exp(-odds)), "yes", "no")
    tree.mkdir(parents=True)
    frame.to_csv(tree / "source.csv", index=False)
    return tree / "source.csv"


def _described(source: Path, estimator: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "large-model",
        "source": {"path": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
        "target": "answer",
        "positive": "yes",
        "numeric": {f"number {position}": {"type": "number"} for position in range(NUMBERS)},
        "categorical": {f"text {position}": {} for position in range(TEXTS)},
        "split": {"evaluation": 0.25, "reference": 0.25, "seed": 0},
        "estimator": estimator,
    }


def _run(place: Place, stage: str, tree: Path) -> tuple[float, float]:
    """Run a stage in `tree`; return the seconds that it took, and those of all its processors' work."""
    began, worked = time.monotonic(), _children_cpu_s()
    module = f"pipelines.training.{stage}"
    run_module(place, module, "--root", str(tree), environ=STAGE_ENVIRON, within_s=_STAGE_S)
    return time.monotonic() - began, _children_cpu_s() - worked


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
