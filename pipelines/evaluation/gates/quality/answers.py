"""What a classifier has answered to the rows that judge it, in class numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.domain.description import label_text
from pipelines.domain.verdict import GateResult, Verdict

if TYPE_CHECKING:
    import numpy as np

    from pipelines.evaluation.gates.offline.world import Offline


@dataclass(frozen=True)
class Unmeasured:
    """Why there is nothing to judge."""

    verdict: Verdict
    why: str

    def result(self, name: str, beside: str = "") -> GateResult:
        """Return it as the result of that name; what does not apply is no matter of how many rows there are."""
        if self.verdict is Verdict.NOT_APPLICABLE:
            return GateResult(name, self.verdict, self.why)
        return GateResult(name, self.verdict, f"{self.verdict.upper()}: {name}: {self.why}{beside}")


@dataclass(frozen=True)
class ClassAnswers:
    """Probabilities (n, C) of `classes`, and the numbers of the answered and of the true classes, (n,).

    `positive` is the number of the class that two are about, None of several.
    """

    classes: tuple[str, ...]
    positive: int | None
    probabilities: "np.ndarray"
    predicted: "np.ndarray"
    truth: "np.ndarray"


def class_answers(world: "Offline") -> ClassAnswers | Unmeasured:
    """Return the candidate's answers to the rows that judge it; Unmeasured where they can have no metric."""
    import numpy as np

    rows, scores = world.candidate.judged
    output = world.candidate.description.output
    classes = tuple(map(label_text, output.classes))
    if not rows.any():
        return Unmeasured(Verdict.INCONCLUSIVE, "no evaluation rows")
    truth = class_numbers(world.actual[rows], classes)
    if isinstance(truth, Unmeasured):
        return truth
    if len(np.unique(truth)) < 2:
        return Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set has one class only")
    if not np.isfinite(scores.numbers).all():
        return Unmeasured(Verdict.ERROR, "a probability is not a finite number")
    assert scores.labels is not None
    predicted = class_numbers(scores.labels, classes)
    if isinstance(predicted, Unmeasured):
        return Unmeasured(Verdict.ERROR, "the model answers a class that it does not name")
    positive = None if output.positive is None else classes.index(label_text(output.positive))
    return ClassAnswers(classes, positive, scores.numbers, predicted, truth)


def number_answers(world: "Offline") -> "tuple[np.ndarray, np.ndarray] | Unmeasured":
    """Return the truth (n,) of the rows that judge a regression, and the values that it answers."""
    import numpy as np

    rows, scores = world.candidate.judged
    if not rows.any():
        return Unmeasured(Verdict.INCONCLUSIVE, "no evaluation rows")
    if not np.isfinite(scores.values).all():
        return Unmeasured(Verdict.ERROR, "a prediction is not a finite number")
    return world.actual[rows], scores.values


def class_numbers(texts: "np.ndarray", classes: tuple[str, ...]) -> "np.ndarray | Unmeasured":
    """Return the numbers of classes that are given as texts (n,)."""
    import numpy as np
    import pandas as pd

    numbers = pd.Index(classes, dtype=object).get_indexer(pd.Index(texts, dtype=object))
    if (numbers < 0).any():
        unknown = sorted(set(texts[numbers < 0]))[:5]
        return Unmeasured(Verdict.INCONCLUSIVE, f"the evaluation set holds the unknown classes {unknown}")
    return np.asarray(numbers, dtype=np.int64)
