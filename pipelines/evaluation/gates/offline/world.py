"""What gates measure without a service: two bundles, each opened and scored once, on one frozen evaluation set."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.domain.bundle import Feature
from pipelines.domain.description import Description, Label, Task
from pipelines.evaluation.gates.gate import Need

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipelines.packaging.onnx_model import Scores, ServedModel
    from pipelines.packaging.snapshot import Snapshot


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle in the store, and its description."""

    path: Path
    description: Description
    snapshot: "Snapshot"

    @cached_property
    def model(self) -> "ServedModel":
        """The model, opened at first use; raises NotServable when it is none that may be run."""
        from pipelines.packaging.onnx_model import OnnxModel, ServedModel

        features = tuple(map(Feature.read, self.description.features))
        return ServedModel(OnnxModel.load(self.path / "model.onnx"), features, self.description.onnx.inputs)

    @cached_property
    def scores(self) -> "Scores":
        """The model's answers to the rows of the evaluation set; raises NotServable as `ask_as_served` does."""
        return self.ask(self.snapshot.frame)

    def ask(self, frame: "pd.DataFrame") -> "Scores":
        """Return the model's answers to rows."""
        from pipelines.evaluation.gates.offline.asking import ask_as_served

        return ask_as_served(self.model, frame)

    def probability(self, label: Label) -> "np.ndarray":
        """Return the probability of a class on the rows of the evaluation set, (n,); raises as `scores` does."""
        return self.scores.numbers[:, self.description.output.classes.index(label)]


@dataclass(frozen=True)
class Offline:
    """A candidate with the digest pinned for it, its training's own predictions, and the champion if there is one."""

    digest: str
    candidate: OpenedBundle
    snapshot: "Snapshot"
    predictions: "pd.DataFrame | None" = None
    champion: OpenedBundle | None = None

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""
        found = {Need.MODEL, Need.EVALUATION_SET}
        found |= {Need.PREDICTIONS} if self.predictions is not None else set()
        found |= {Need.CHAMPION} if self.champion is not None else set()
        found |= {Need.NUMBER if self.task is Task.REGRESSION else Need.CLASSES}
        return frozenset(found)

    @property
    def actual(self) -> "np.ndarray":
        """The truth of the evaluation set, (n,): labels as texts, or the values of a regression."""
        target = self.snapshot.target
        return target.to_numpy() if self.task is Task.REGRESSION else target.astype(str).to_numpy()

    @property
    def task(self) -> Task:
        """What the candidate answers."""
        return self.candidate.description.task
