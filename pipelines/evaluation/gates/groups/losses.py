"""What an answer costs, row by row: the parts that a metric of all rows is the mean of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.domain.description import Description, Task, label_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.packaging.onnx_model import Scores

ERROR, LOG_LOSS, MAE = "error", "log_loss", "mae"
# A probability below it counts as this: one row that is surely wrong would outweigh all others of a small slice.
LEAST_PROBABILITY = 0.01

# By the name of a metric, the losses of so many rows (n,).
Losses = Mapping[str, "NDArray[np.float64]"]


@dataclass(frozen=True)
class Judged:
    """Which rows of a set a version is judged by, (n,), and its losses on those."""

    rows: "NDArray[np.bool_]"
    losses: Losses

    def on(self, chosen: "NDArray[np.int64]") -> Losses:
        """Return the losses on rows by their places in the set, all of them judged ones."""
        import numpy as np

        places = (np.cumsum(self.rows) - 1)[chosen]
        return {metric: values[places] for metric, values in self.losses.items()}


def losses_of(scores: "Scores", description: Description, truth: "NDArray[Any]") -> Losses:
    """Return the losses of answers to rows of this truth (n,), labels as texts or numbers.

    Of a classifier they are whether it errs, and the negative logarithm of the true class's probability, cut at that of
    1 %; of a regression the absolute error.
    """
    import numpy as np

    if description.task is Task.REGRESSION:
        return {MAE: np.abs(truth - scores.values)}
    assert scores.labels is not None
    wrong = (scores.labels != truth).astype(np.float64)
    return {ERROR: wrong, LOG_LOSS: log_losses(scores.numbers, places(truth, description))}


def places(truth: "NDArray[Any]", description: Description) -> "NDArray[np.int64]":
    """Return the place of each label (n,) among the model's classes, -1 for one that it does not know."""
    import pandas as pd

    known = pd.Index([label_text(each) for each in description.output.classes])
    return known.get_indexer(pd.Index(truth))


def log_losses(probabilities: "NDArray[np.float64]", places: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """Return the loss of each row's probabilities (n, C) by the place of its class (n,)."""
    import numpy as np

    found = np.where(places < 0, 0.0, probabilities[np.arange(len(places)), places]) / probabilities.sum(axis=1)
    losses: NDArray[np.float64] = -np.log(np.clip(found, LEAST_PROBABILITY, 1.0))
    return losses
