"""The metrics of each task with their intervals: of a classifier's answers, and of a regression's values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.domain.verdict import Table
from pipelines.evaluation.gates.quality import metrics, shares
from pipelines.evaluation.gates.quality.answers import ClassAnswers
from pipelines.evaluation.gates.quality.intervals import Estimate, Metric, estimated
from pipelines.evaluation.gates.quality.shares import Share

if TYPE_CHECKING:
    import numpy as np

_MOST_CLASSES_SHOWN = 60
_MOST_CLASSES_NAMED = 5


@dataclass(frozen=True)
class Found:
    """A metric with its interval; None of a metric that is not defined, and `why`. `beside` is said in its message."""

    value: float | None
    interval: tuple[float, float] | None = None
    why: str = ""
    beside: str = ""
    table: Table | None = None

    @classmethod
    def of(cls, estimate: Estimate | None, beside: str = "", table: Table | None = None) -> "Found":
        """Return what was estimated, without an interval where all resamples are alike: other rows might not be."""
        if estimate is None:
            return cls(None, why="too few rows of a class")
        low, high = estimate.interval
        return cls(estimate.value, estimate.interval if low < high else None, beside=beside, table=table)

    def said(self, name: str, digits: str) -> tuple[str, str]:
        """Return the metric in words, with its value to so many digits, and what is said after the limit."""
        if self.value is None:
            return f"{name}: {self.why}", ""
        low, high = self.interval or (0.0, 0.0)
        between = f", 95 % interval {low:{digits}} to {high:{digits}}" if self.interval else ""
        return f"{name}={self.value:{digits}}", between + self.beside


def share_metric(share: Share, classes: int, positive: int | None = None) -> Metric:
    """Return a share of right answers as a metric of class numbers: the positive class's, or the mean of all."""
    return Metric(
        lambda predicted, truth: shares.mean_share(share, predicted, truth, classes, positive),
        lambda predicted, truth: shares.mean_share_influence(share, predicted, truth, classes, positive),
    )


AUC = Metric(
    lambda scores, positive: metrics.auc(scores, positive) if positive.any() and not positive.all() else None,
    metrics.auc_influence,
)
MACRO_AUC = Metric(metrics.macro_auc, metrics.macro_auc_influence)
AVERAGE_PRECISION = Metric(
    lambda scores, positive: metrics.average_precision(scores, positive) if positive.any() else None,
    metrics.average_precision_influence,
)
# Of what each row has by itself; so all but the truth is given as the answers.
MEAN = Metric(lambda each, _: float(each.mean()), lambda each, _: metrics.centred(each))
RMSE = Metric(
    lambda values, truth: metrics.rmse(truth, values), lambda values, truth: metrics.rmse_influence(truth, values)
)
MAE = Metric(
    lambda values, truth: metrics.mae(truth, values), lambda values, truth: metrics.centred(abs(truth - values))
)
R2 = Metric(lambda values, truth: metrics.r2(truth, values), lambda values, truth: metrics.r2_influence(truth, values))


def of_numbers(truth: "np.ndarray", values: "np.ndarray") -> "dict[str, Found]":
    """Return the metrics of a regression's finite values (n,) by the truth (n,)."""
    return {
        "rmse": Found.of(estimated(RMSE, values, truth)),
        "mae": Found.of(estimated(MAE, values, truth)),
    }


def of_classes(answers: ClassAnswers) -> "dict[str, Found]":
    """Return the metrics of a classifier's answers; those by class are not defined while rows of one are missing."""
    losses = metrics.log_losses(answers.probabilities, answers.truth)
    loss = Found.of(estimated(MEAN, losses, answers.truth))
    by_class = {**{str(share): _share(answers, share) for share in Share}, **_ranked(answers)}
    if why := _missing(answers):
        by_class = {name: Found(None, why=why, table=found.table) for name, found in by_class.items()}
    return {**by_class, "log_loss": loss}


def _missing(answers: ClassAnswers) -> str:
    """Say of which classes there is no row, "" for none: how well those are answered is not known."""
    import numpy as np

    held = np.bincount(answers.truth, minlength=len(answers.classes))
    names = [repr(name) for name, rows in zip(answers.classes, held, strict=True) if not rows]
    more = f" and of {len(names) - _MOST_CLASSES_NAMED} more" if len(names) > _MOST_CLASSES_NAMED else ""
    kind = "class" if len(names) == 1 else "classes"
    return f"no row is of the {kind} {', '.join(names[:_MOST_CLASSES_NAMED])}{more}" if names else ""


def _share(answers: ClassAnswers, share: Share) -> Found:
    positive = answers.positive
    if share is Share.PRECISION and positive is not None and not (answers.predicted == positive).any():
        return Found(None, why=f"no row is answered with {answers.classes[positive]!r}")
    metric = share_metric(share, len(answers.classes), positive)
    table = _by_class(answers) if share is Share.F1 else None
    return Found.of(estimated(metric, answers.predicted, answers.truth), table=table)


def _ranked(answers: ClassAnswers) -> "dict[str, Found]":
    if answers.positive is not None:
        positive, scores = answers.truth == answers.positive, answers.probabilities[:, answers.positive]
        found = {"auc": AUC, "average_precision": AVERAGE_PRECISION}
        return {name: Found.of(estimated(metric, scores, positive)) for name, metric in found.items()}
    return {"auc": Found.of(estimated(MACRO_AUC, answers.probabilities, answers.truth))}


def _by_class(answers: ClassAnswers) -> Table:
    """Return the rows and the shares of each class, the class with the least F1 first."""
    import numpy as np

    found = [shares.class_shares(each, answers.predicted, answers.truth, len(answers.classes)) for each in Share]
    held, answered = (np.bincount(each, minlength=len(answers.classes)) for each in (answers.truth, answers.predicted))
    rows = [
        (answers.classes[at], int(held[at]), int(answered[at]), *(round(float(each[at]), 6) for each in found))
        for at in np.argsort(found[-1], kind="stable")[:_MOST_CLASSES_SHOWN]
    ]
    return Table(("class", "rows", "answered", *map(str, Share)), tuple(rows))
