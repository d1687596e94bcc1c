"""Gate: the candidate is not worse than the champion on the same evaluation rows.

Non-inferiority of each metric of the task: a paired bootstrap keeps what both models find hard together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.description import Task, label_text
from pipelines.domain.sections import Section
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.offline.metrics import auc, bootstrapped, log_loss, macro_auc, macro_f1, mae, r2, rmse
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np

    from pipelines.evaluation.gates.offline.world import OpenedBundle


class ComparisonLimits(Section):
    """Non-inferiority margins against the champion."""

    margin: float = Field(
        0.01, gt=0, lt=1, description="how much lower than the champion's AUC, macro F1 and R2 may be"
    )
    relative_margin: float = Field(
        0.02, gt=0, lt=1, description="by what share of the champion's log loss, RMSE and MAE may be higher"
    )


@dataclass(frozen=True)
class Difference:
    """How much better a metric of the candidate is, with its one-sided 95 % bounds.

    `relative` says whether that is a share of the champion's, which is so of metrics that are better when lower.
    """

    observed: float
    interval: tuple[float, float]
    relative: bool = False


@dataclass(frozen=True)
class Unmeasured:
    """Why there is no difference to judge."""

    verdict: Verdict
    why: str


# A metric's name, "" where the task has one only -> what was found.
Found = Mapping[str, Difference | Unmeasured]
# Takes a model's answers to some rows, and those rows; returns None where the rows have no such metric.
Metric = Callable[["np.ndarray", "np.ndarray"], "float | None"]
_LEAST_ERROR = 1e-12
_SHOWN = {
    "": "AUC",
    "auc": "macro AUC",
    "f1": "macro F1",
    "log_loss": "log loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
}


def measure(world: Offline, limits: ComparisonLimits) -> Found:
    """Compare both models on the rows of the evaluation set."""
    import numpy as np

    assert world.champion is not None
    frame, candidate = world.snapshot.frame, world.candidate.description
    missing = [f.name for f in world.champion.description.features if f.name not in frame.columns]
    if missing:
        return {"": Unmeasured(Verdict.INCONCLUSIVE, f"the evaluation set lacks the champion's {', '.join(missing)}")}
    if world.champion.description.task is not candidate.task:
        why = f"the champion is a {world.champion.description.task} model, the candidate a {candidate.task} one"
        return {"": Unmeasured(Verdict.INCONCLUSIVE, why)}
    if set(map(label_text, world.champion.description.output.classes)) != set(
        map(label_text, candidate.output.classes)
    ):
        return {"": Unmeasured(Verdict.INCONCLUSIVE, "the champion knows other classes")}
    try:
        champion = _answers(world.champion, world.candidate)
    except NotServable as refusal:
        # Nothing that the candidate is to blame for.
        return {"": Unmeasured(Verdict.ERROR, f"the champion on these rows: {refusal.message}")}
    truth = world.actual
    if candidate.output.positive is not None:
        truth = truth == label_text(candidate.output.positive)
    elif candidate.task is Task.MULTICLASS:
        numbers = {label_text(each): number for number, each in enumerate(candidate.output.classes)}
        unknown = sorted(set(truth) - set(numbers))
        if unknown:
            return {"": Unmeasured(Verdict.INCONCLUSIVE, f"the evaluation set holds the unknown classes {unknown}")}
        truth = np.array([numbers[each] for each in truth], dtype=np.int64)
    return compare(candidate.task, _answers(world.candidate, world.candidate), champion, truth)


def compare(task: Task, candidate: "np.ndarray", champion: "np.ndarray", truth: "np.ndarray") -> Found:
    """Compare the answers of two models by the truth (n,).

    BINARY: P(positive) (n,), and whether a row is positive. MULTICLASS: probabilities (n, C), and class numbers.
    REGRESSION: values (n,), and the true ones.
    """
    import numpy as np

    if task is not Task.REGRESSION and len(np.unique(truth)) < 2:
        return {"": Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set has one class only")}
    if len(truth) == 0:
        return {"": Unmeasured(Verdict.INCONCLUSIVE, "no evaluation rows")}
    if not (np.isfinite(candidate).all() and np.isfinite(champion).all()):
        answered = "prediction" if task is Task.REGRESSION else "probability"
        return {"": Unmeasured(Verdict.ERROR, f"a {answered} is not a finite number")}
    found: dict[str, Difference | Unmeasured] = {}
    for name, (metric, relative) in _METRICS[task].items():
        found[name] = _difference(metric, candidate, champion, truth, relative=relative)
    return found


def _difference(
    metric: Metric, candidate: "np.ndarray", champion: "np.ndarray", truth: "np.ndarray", *, relative: bool
) -> Difference | Unmeasured:
    import numpy as np

    def better(rows: "np.ndarray") -> float | None:
        ours, theirs = metric(candidate[rows], truth[rows]), metric(champion[rows], truth[rows])
        if ours is None or theirs is None:
            return None
        if not relative:
            return ours - theirs
        # A champion that never errs leaves no share; any error is then far worse.
        return (theirs - ours) / max(theirs, _LEAST_ERROR)

    observed = better(np.arange(len(truth)))
    if observed is None:
        return Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set lacks a class, or has one value only")
    lower, upper = np.quantile(bootstrapped(better, len(truth)), [0.05, 0.95])
    return Difference(float(observed), (float(lower), float(upper)), relative)


def judge(found: Found, limits: ComparisonLimits) -> list[GateResult]:
    """Judge the one-sided 95 % bounds of each difference against its margin."""
    return [_judged(metric, each, limits) for metric, each in found.items()]


def _judged(metric: str, found: Difference | Unmeasured, limits: ComparisonLimits) -> GateResult:
    name = f"comparison.{metric}" if metric else "comparison"
    if isinstance(found, Unmeasured):
        return GateResult(name, found.verdict, f"{found.verdict.upper()}: {name}: {found.why}")
    margin = limits.relative_margin if found.relative else limits.margin
    (lower, upper), observed = found.interval, found.observed
    unit = (
        f"of production's {_SHOWN[metric]}, better where positive"
        if found.relative
        else f"{_SHOWN[metric]} against production"
    )
    shown = f"{name}={observed:+.4f} {unit}, one-sided 95 % bounds {lower:+.4f} and {upper:+.4f}"
    if lower > -margin:
        verdict, message = Verdict.PASSED, f"PASS {shown}, margin {margin:g}"
    elif upper < -margin:
        verdict, message = Verdict.FAILED, f"FAIL: {name}={observed:.4f} < {-margin:g} ({shown})"
    else:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {shown}, margin {margin:g}"
    return GateResult(name, verdict, message, observed=observed, interval=found.interval, limit=-margin)


def _answers(model: "OpenedBundle", candidate: "OpenedBundle") -> "np.ndarray":
    """Return what of a model is compared, its classes in the candidate's order."""
    output = candidate.description.output
    if candidate.description.task is Task.REGRESSION:
        return model.scores.values
    if output.positive is not None:
        return model.probability(output.positive)
    order = [label_text(each) for each in model.description.output.classes]
    return model.scores.numbers[:, [order.index(label_text(each)) for each in output.classes]]


def _macro_f1(probabilities: "np.ndarray", truth: "np.ndarray") -> float:
    return macro_f1(probabilities.argmax(axis=1), truth, probabilities.shape[1])


def _swapped(metric: "Callable[[np.ndarray, np.ndarray], float | None]") -> Metric:
    return lambda answers, truth: metric(truth, answers)


def _auc(scores: "np.ndarray", positive: "np.ndarray") -> float | None:
    return auc(scores, positive) if positive.any() and not positive.all() else None


# The metrics of each task, and whether a lower one is better, by a share of the champion's.
_METRICS: Mapping[Task, Mapping[str, tuple[Metric, bool]]] = {
    Task.BINARY: {"": (_auc, False)},
    Task.MULTICLASS: {"auc": (macro_auc, False), "f1": (_macro_f1, False), "log_loss": (log_loss, True)},
    Task.REGRESSION: {"rmse": (_swapped(rmse), True), "mae": (_swapped(mae), True), "r2": (_swapped(r2), False)},
}


COMPARISON = Gate(
    name="comparison",
    description="The candidate is not worse than the champion on the same evaluation rows: of two classes its ROC AUC,"
    " of several its macro AUC and macro F1, of a regression its R2 is less than the margin below the champion's, and"
    " its log loss, RMSE and MAE less than the relative margin above. Passed and failed are proven by the one-sided"
    " 95 % bounds of a paired bootstrap; what lies between is inconclusive.",
    limits=ComparisonLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.CHAMPION}),
    unless="no champion yet to compare with",
    overridable=True,
)
