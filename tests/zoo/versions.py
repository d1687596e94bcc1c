"""A fitted estimator as a version that went through packaging, and what the offline gates find of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.domain.bundle import digest_of
from pipelines.domain.description import Description, Task
from pipelines.domain.policy import Policy
from pipelines.domain.verdict import GateResult
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.registry import GATES
from pipelines.packaging.reading import read_predictions
from pipelines.packaging.snapshot import read_snapshot, write_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.training.fitted.version import Told, lay_out
from pipelines.training.workspace import Workspace
from tests.support.world.fakes import FakeModelRegistry
from tests.support.world.packaged import package
from tests.zoo.customers import CATEGORIES, LEFT, NUMBERS, SPEND, TARGETS, TIER

MODEL = "customer-model"
TARGET = {Task.BINARY: LEFT, Task.REGRESSION: SPEND, Task.MULTICLASS: TIER}
_MLFLOW_TYPE = {"float32": "float", "object": "string", "str": "string"}


@dataclass(frozen=True)
class Version:
    """A version's bundle, and the files that its run logged."""

    path: Path
    description: Description
    workspace: Workspace


def taken(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of customers that a model takes, numbers as float32."""
    features = frame.drop(columns=[each for each in TARGETS if each in frame])
    numbers = [name for name in features if name not in CATEGORIES]
    return features.astype(dict.fromkeys(numbers, "float32"))


def packaged(
    place: Path,
    estimator: Any,
    train: pd.DataFrame,
    evaluation: pd.DataFrame,
    task: Task,
    *,
    graph: Callable[[bytes], bytes] = lambda content: content,
) -> Version:
    """Lay out and package an estimator that was fitted on `train`; `graph` changes its ONNX form on the way."""
    workspace, target = Workspace(place / "tree"), TARGET[task]
    told = Told(MODEL, task, positive="yes" if task is Task.BINARY else None, protected=("gender",))
    rows = taken(evaluation)
    lay_out(workspace, estimator, rows, evaluation[target], told, train=(taken(train), train[target]))
    TrainingRows.of(read_snapshot(workspace.train)).write(place / "rows")
    registry = FakeModelRegistry()
    version = registry.register(
        MODEL,
        onnx=graph(workspace.onnx_model.read_bytes()),
        input_types={name: _MLFLOW_TYPE[str(kind)] for name, kind in rows.dtypes.items()},
        artifacts={
            "slipway/evaluation.parquet": workspace.evaluation.read_bytes(),
            "slipway/predictions.parquet": workspace.predictions.read_bytes(),
            "slipway/training-rows.parquet": (place / "rows").read_bytes(),
            "slipway/reference.parquet": workspace.reference.read_bytes(),
        },
        run_tags={"slipway.dataset.evaluation": digest_of(workspace.evaluation.read_bytes())},
    )
    done = package(registry, place, version)
    return Version(place / "bundles" / done.digest.replace(":", "-"), Description.read(done.body), workspace)


def opened(version: Version, evaluation: Path) -> OpenedBundle:
    """Return a version that is asked the rows of an evaluation set, none of which it was trained on."""
    snapshot = read_snapshot(evaluation)
    none = np.zeros(len(snapshot.frame), dtype=bool)
    reference = read_snapshot(version.workspace.reference)
    return OpenedBundle(version.path, version.description, snapshot, none, reference)


def world_of(candidate: Version, champion: Version | None, evaluation: Path, *, predicted: bool = True) -> Offline:
    """Return what the offline gates measure; the training's own answers are those to its own evaluation set."""
    bundle = opened(candidate, evaluation)
    return Offline(
        digest=digest_of((candidate.path / "bundle.json").read_bytes()),
        candidate=bundle,
        snapshot=bundle.snapshot,
        predictions=read_predictions(candidate.workspace.predictions) if predicted else None,
        champion=opened(champion, evaluation) if champion else None,
    )


def results(world: Offline, policy: Policy, names: Iterable[str] = ()) -> list[GateResult]:
    """Return what the offline gates find, all of them or those of some names."""
    wanted = set(names) or {gate.name for gate in (*GATES.of_the_bundle, *GATES.of_the_model)}
    gates = [gate for gate in (*GATES.of_the_bundle, *GATES.of_the_model) if gate.name in wanted]
    return [result for gate in gates for result in gate.results(world, policy)]


def redrawn(version: Version, rows: pd.DataFrame, task: Task, place: Path) -> Path:
    """Write other customers as an evaluation set of the same description; return its path."""
    snapshot = read_snapshot(version.workspace.evaluation)
    target = snapshot.description.target
    frame = taken(rows).assign(**{target: rows[TARGET[task]]})
    for feature in snapshot.description.features:
        if feature.name in NUMBERS:
            frame[feature.name] = frame[feature.name].astype(float)
    write_snapshot(place, frame, replace(snapshot.description, identity=()))
    return place
