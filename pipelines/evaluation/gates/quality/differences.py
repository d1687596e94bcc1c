"""How much better one model's answers are than another's to the same rows, by each metric of the task."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.domain.description import Task
from pipelines.domain.verdict import Table, Verdict
from pipelines.evaluation.gates.quality import metrics
from pipelines.evaluation.gates.quality.answers import Unmeasured
from pipelines.evaluation.gates.quality.intervals import Metric, better
from pipelines.evaluation.gates.quality.mcnemar import Discordant
from pipelines.evaluation.gates.quality.measures import AUC, AVERAGE_PRECISION, MACRO_AUC, MAE, R2, RMSE, share_metric
from pipelines.evaluation.gates.quality.shares import Share

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Difference:
    """How much better a metric of the candidate is, with its one-sided 95 % bounds.

    `relative` says whether that is a share of the champion's, which is so of metrics that are better when lower. `on`
    says which rows are meant where they are not all, `told` what else is known.
    """

    observed: float
    interval: tuple[float, float]
    relative: bool = False
    on: str = ""
    told: str = ""
    table: Table | None = None


# A metric's name, "" where it is the AUC of two classes -> what was found.
Found = Mapping[str, Difference | Unmeasured]


def compare(
    task: Task,
    candidate: "np.ndarray",
    champion: "np.ndarray",
    truth: "np.ndarray",
    named: Collection[str] = (),
) -> Found:
    """Compare the answers of two models by the truth (n,).

    BINARY: P(positive) (n,), and whether a row is positive. MULTICLASS: probabilities (n, C), and class numbers.
    REGRESSION: values (n,), and the true ones. The average precision of two classes is compared where it is `named`.
    """
    import numpy as np

    if task is not Task.REGRESSION and len(np.unique(truth)) < 2:
        return {"": Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set has one class only")}
    if len(truth) == 0:
        return {"": Unmeasured(Verdict.INCONCLUSIVE, "no evaluation rows")}
    if not (np.isfinite(candidate).all() and np.isfinite(champion).all()):
        answered = "prediction" if task is Task.REGRESSION else "probability"
        return {"": Unmeasured(Verdict.ERROR, f"a {answered} is not a finite number")}
    return {
        name: _difference(metric, candidate, champion, truth, relative=relative)
        for name, (metric, relative) in _METRICS[task].items()
        if name != "average_precision" or name in named
    }


def _difference(
    metric: Metric, candidate: "np.ndarray", champion: "np.ndarray", truth: "np.ndarray", *, relative: bool
) -> Difference | Unmeasured:
    found = better(metric, candidate, champion, truth, relative=relative)
    if found is None:
        return Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set lacks a class, or has one value only")
    return Difference(found.value, found.interval, relative)


def f1_of(ours: "np.ndarray", theirs: "np.ndarray", truth: "np.ndarray") -> Difference | Unmeasured:
    """Compare the F1 of the positive class by which rows are answered with it, and which are of it, (n,) each."""
    one, other, true = (each.astype(int) for each in (ours, theirs, truth))
    return _difference(share_metric(Share.F1, 2, 1), one, other, true, relative=False)


def accuracies(ours: "np.ndarray", theirs: "np.ndarray") -> Difference:
    """Compare which rows two models answer rightly (n,), by McNemar's exact test."""
    pairs = Discordant.of(ours, theirs)
    alone = f"right alone on {pairs.ours:,} of {pairs.rows:,} rows, production on {pairs.theirs:,}"
    told = f"; {alone}, McNemar's exact p={pairs.p:.3g}"
    return Difference(pairs.difference, pairs.bounds, told=told, table=pairs.table)


def _by_argmax(share: Share) -> Metric:
    def numbers(probabilities: "np.ndarray") -> "np.ndarray":
        found: np.ndarray = probabilities.argmax(axis=1)
        return found

    def metric(probabilities: "np.ndarray") -> Metric:
        return share_metric(share, probabilities.shape[1])

    return Metric(
        lambda answers, truth: metric(answers).value(numbers(answers), truth),
        lambda answers, truth: metric(answers).influence(numbers(answers), truth),
    )


_BINARY_LOG_LOSS = Metric(
    lambda scores, positive: float(metrics.binary_log_losses(scores, positive).mean()),
    lambda scores, positive: metrics.centred(metrics.binary_log_losses(scores, positive)),
)
_LOG_LOSS = Metric(
    metrics.log_loss, lambda probabilities, truth: metrics.centred(metrics.log_losses(probabilities, truth))
)
# The metrics of each task, and whether a lower one is better, by a share of the champion's.
_METRICS: Mapping[Task, Mapping[str, tuple[Metric, bool]]] = {
    Task.BINARY: {
        "": (AUC, False),
        "log_loss": (_BINARY_LOG_LOSS, True),
        "average_precision": (AVERAGE_PRECISION, False),
    },
    Task.MULTICLASS: {"auc": (MACRO_AUC, False), "f1": (_by_argmax(Share.F1), False), "log_loss": (_LOG_LOSS, True)},
    Task.REGRESSION: {"rmse": (RMSE, True), "mae": (MAE, True), "r2": (R2, False)},
}
