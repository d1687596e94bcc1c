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
    from numpy.typing import NDArray

    from pipelines.packaging.onnx_model import Scores, ServedModel
    from pipelines.packaging.snapshot import Snapshot


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle in the store, its description, and the evaluation set that it is asked.

    `trained_on` tells of each row of the set whether the version was trained on it, (n,); None where that is unknown.
    `reference` are rows of its training, None where the version has logged none.
    """

    path: Path
    description: Description
    snapshot: "Snapshot"
    trained_on: "NDArray[np.bool_] | None" = None
    reference: "Snapshot | None" = None

    @property
    def unseen(self) -> "NDArray[np.bool_]":
        """Which rows of the set may judge the version, (n,): all but those that it is known to be trained on."""
        import numpy as np

        return np.ones(len(self.snapshot.frame), dtype=bool) if self.trained_on is None else ~self.trained_on

    @property
    def lacking(self) -> list[str]:
        """The features that no request may leave out, and that the set has no column of."""
        held = self.snapshot.frame.columns
        return [each.name for each in self.description.features if each.name not in held and not each.nullable]

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

    @cached_property
    def asked(self) -> "tuple[NDArray[np.bool_], Scores]":
        """Which rows of the set the service would take of this version, (n,), and the model's answers to those.

        What the set lacks of a feature that may be missing is missing. Raises NotServable as `scores` does.
        """
        import numpy as np

        from pipelines.evaluation.gates.offline.asking import completed, taken

        features = tuple(map(Feature.read, self.description.features))
        held = self.snapshot.frame
        if self.lacking:
            rows = np.zeros(len(held), dtype=bool)
            return rows, self.ask(held.reindex(columns=[each.name for each in features])[rows])
        frame = completed(held, features)
        rows = taken(frame, features)
        return rows, self.scores if frame is held and rows.all() else self.ask(frame[rows])

    @property
    def refused(self) -> int:
        """How many rows of the set the service would not take as requests of this version; raises as `asked` does."""
        return int((~self.asked[0]).sum())

    @cached_property
    def judged(self) -> "tuple[NDArray[np.bool_], Scores]":
        """Which rows of the set judge the version by itself, (n,), and the model's answers to those.

        That is those that the service would take of it, and that it was not trained on. Raises as `asked` does.
        """
        import numpy as np

        taken, scores = self.asked
        return taken & self.unseen, scores.take(np.flatnonzero(self.unseen[taken]))

    def ask(self, frame: "pd.DataFrame") -> "Scores":
        """Return the model's answers to rows."""
        from pipelines.evaluation.gates.offline.asking import ask_as_served

        return ask_as_served(self.model, frame)

    def probability(self, label: Label) -> "np.ndarray":
        """Return the probability of a class on the rows of the evaluation set, (n,); raises as `scores` does."""
        return self.scores.numbers[:, self.description.output.classes.index(label)]


@dataclass(frozen=True)
class Offline:
    """A candidate with the digest pinned for it, its training's own predictions, and the champion if there is one.

    `snapshot` is the evaluation set in force. `own` is the same over the set that the version brings, which the
    predictions are of, and `accepted` over the one that production was judged by; None where they don't differ.
    """

    digest: str
    candidate: OpenedBundle
    snapshot: "Snapshot"
    predictions: "pd.DataFrame | None" = None
    champion: OpenedBundle | None = None
    own: "Offline | None" = None
    accepted: "Offline | None" = None

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""
        found = {Need.MODEL, Need.EVALUATION_SET}
        found |= {Need.PREDICTIONS} if self.predictions is not None else set()
        found |= {Need.CHAMPION} if self.champion is not None else set()
        found |= {Need.NUMBER if self.task is Task.REGRESSION else Need.CLASSES}
        found |= {Need.PROTECTED} if self.snapshot.description.protected else set()
        return frozenset(found)

    @cached_property
    def actual(self) -> "np.ndarray":
        """The truth of the evaluation set, (n,): labels as texts, or the values of a regression."""
        target = self.snapshot.target
        return target.to_numpy() if self.task is Task.REGRESSION else target.astype(str).to_numpy()

    @property
    def task(self) -> Task:
        """What the candidate answers."""
        return self.candidate.description.task
