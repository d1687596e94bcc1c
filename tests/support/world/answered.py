"""Rows of each task with answers that are given and not computed: what gates over groups of rows are shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Description, Label, Output, Task
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.packaging.onnx_model import Scores
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription

PLACES = ("harbour", "hills", "old town")
NAMES: dict[Task, tuple[Label, ...]] = {
    Task.BINARY: ("no", "yes"),
    Task.MULTICLASS: ("a", "b", "c"),
    Task.REGRESSION: (),
}
FEATURES = (
    Feature("age", FeatureType.NUMBER, nullable=True),
    Feature("place", FeatureType.CATEGORY, categories=PLACES),
    Feature("member", FeatureType.BOOLEAN),
)


def visitors(task: Task, rows: int = 1500, seed: int = 1) -> tuple[pd.DataFrame, Any, Any]:
    """Return features, truth (n,), and the answers of a good model: probabilities (n, C), or values (n,)."""
    random = np.random.default_rng(seed)
    age = random.normal(40, 12, rows)
    frame = pd.DataFrame(
        {
            "age": np.where(random.random(rows) < 0.05, np.nan, age),
            "place": random.choice(PLACES, rows),
            "member": random.random(rows) < 0.4,
        }
    )
    lean = (age - 40) / 6 + (frame["place"] == "harbour").to_numpy() * 1.5 - frame["member"].to_numpy() * 1.0
    if task is Task.REGRESSION:
        return frame, 10 * lean + random.normal(0, 5, rows), 10 * lean
    if task is Task.BINARY:
        odds = 1 / (1 + np.exp(-1.5 * lean))
        answers = np.column_stack([1 - odds, odds])
    else:
        weights = np.exp(np.column_stack([1.5 * lean, np.zeros(rows), -1.5 * lean]))
        answers = weights / weights.sum(axis=1, keepdims=True)
    drawn = (random.random(rows)[:, None] > answers.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return frame, np.array([str(each) for each in NAMES[task]], dtype=object)[drawn], answers


def classes_of(task: Task, truth: Any) -> Any:
    """Return the probabilities of a model that is nearly sure of the truth, (n, C)."""
    right = truth[:, None] == np.array([str(each) for each in NAMES[task]], dtype=object)[None, :]
    return np.where(right, 1 - 0.02 * (len(NAMES[task]) - 1), 0.02)


def answered(
    task: Task,
    frame: pd.DataFrame,
    truth: Any,
    answers: Any,
    *,
    champion: Any = None,
    champion_classes: tuple[Label, ...] | None = None,
    champion_trained_on: Any = None,
    protected: tuple[str, ...] = (),
    features: tuple[Feature, ...] = FEATURES,
) -> Offline:
    """Return what offline gates measure of a version that gave such answers, and of a champion that gave its own."""
    classes = NAMES[task]
    positive = classes[1] if task is Task.BINARY else None
    described = SnapshotDescription("visits", "y", positive, classes, features, protected, task)
    snapshot = Snapshot(frame.assign(y=truth), described, "sha256:e")

    def opened(given: Any, own: tuple[Label, ...], trained_on: Any) -> OpenedBundle:
        description = Description.model_construct(
            task=task,
            features=tuple(each.written() for each in features),
            output=Output(target="y", classes=own, positive=positive),
        )
        bundle = OpenedBundle(Path(), description, snapshot, trained_on)
        rows = bundle.unseen
        labels = None
        if task is not Task.REGRESSION:
            labels = np.array([str(each) for each in own], dtype=object)[given.argmax(axis=1)]
        numbers = given if given.ndim > 1 else given[:, None]
        # As the cached answers of a model that was asked.
        vars(bundle)["judged"] = (rows, Scores(numbers, labels).take(np.flatnonzero(rows)))
        return bundle

    candidate = opened(answers, classes, None)
    if champion is None:
        return Offline("sha256:c", candidate, snapshot)
    return Offline(
        "sha256:c", candidate, snapshot, champion=opened(champion, champion_classes or classes, champion_trained_on)
    )
