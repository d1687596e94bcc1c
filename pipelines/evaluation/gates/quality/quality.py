"""Gate: every metric of the task beside accuracy and R2, and what the answers are worth to the business."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from pipelines.domain.description import Task
from pipelines.domain.sections import Profile, Section, refuse_unless
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, refused_beside, too_few
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.answers import Unmeasured, class_answers, number_answers
from pipelines.evaluation.gates.quality.measures import Found, of_classes, of_numbers
from pipelines.evaluation.gates.quality.value import Value, worth_of_classes, worth_of_numbers

_SHARE = "of the positive class, or the mean over classes"


class Least(Section):
    """The least that a metric may be; one that is not named is only shown."""

    precision: float | None = Field(None, ge=0, le=1, description=_SHARE)
    recall: float | None = Field(None, ge=0, le=1, description=_SHARE)
    f1: float | None = Field(None, ge=0, le=1, description=_SHARE)
    auc: float | None = Field(
        0.5, ge=0, le=1, description="ROC AUC, of several classes the mean of each against the others"
    )
    average_precision: float | None = Field(None, ge=0, le=1, description="of two classes")


class Most(Section):
    """The most that a metric may be; one that is not named is only shown."""

    log_loss: float | None = Field(None, gt=0, description="of classes")
    rmse: float | None = Field(None, gt=0, description="of a regression, in the unit of its target")
    mae: float | None = Field(None, gt=0, description="of a regression, in the unit of its target")


class QualityLimits(Limits):
    """Limits on the metrics of a task, all as measured on the evaluation set; their intervals are shown."""

    minimum: Least = Field(
        Least(),
        description="the least that precision, recall, f1, auc and average_precision may be, as measured;"
        " one that is not named is only shown",
    )
    maximum: Most = Field(
        Most(), description="the most that log_loss, rmse and mae may be, as measured; one not named is only shown"
    )
    value: Value | None = Field(
        None, description="what answers cost: `costs` by true and answered class, or `over` and `under`; and `minimum`"
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)

    def check(self, profile: Profile) -> None:
        """Raise PolicyInvalid for a value without any cost."""
        given = self.value is None or self.value.of_classes or self.value.of_numbers
        refuse_unless([(given, "policy.gates.quality.value", "costs of classes, or over and under of a regression")])

    def least_of(self, metric: str) -> float | None:
        """Return the least that a metric may be, None where nothing is too low."""
        if metric == "value":
            return self.value.minimum if self.value else None
        return getattr(self.minimum, metric, None)

    def most_of(self, metric: str) -> float | None:
        """Return the most that a metric may be, None where nothing is too high."""
        return getattr(self.maximum, metric, None)


@dataclass(frozen=True)
class Measured:
    """What was found of each metric on so many rows, "" of all; `refused` counts those that are no requests."""

    found: Mapping[str, Found | Unmeasured]
    rows: int
    refused: int = 0


def measure(world: Offline, limits: QualityLimits) -> Measured:
    """Take the metrics of the task on rows that the version was not trained on."""
    return Measured(_found(world, limits), int(world.candidate.judged[0].sum()), world.candidate.refused)


def _found(world: Offline, limits: QualityLimits) -> Mapping[str, Found | Unmeasured]:
    if world.task is Task.REGRESSION:
        numbers = number_answers(world)
        if isinstance(numbers, Unmeasured):
            return {"": numbers}
        return {**of_numbers(*numbers), "value": worth_of_numbers(*numbers, limits.value)}
    answers = class_answers(world)
    if isinstance(answers, Unmeasured):
        return {"": answers}
    return {**of_classes(answers), "value": worth_of_classes(answers, limits.value)}


def judge(measured: Measured, limits: QualityLimits) -> list[GateResult]:
    """Judge each metric that has a limit by its point estimate, as the accuracy is; the others are shown."""
    beside = refused_beside(measured.refused)
    return [
        each.result(f"quality.{name}" if name else "quality", beside)
        if isinstance(each, Unmeasured)
        else _judged(name, each, measured, limits)
        for name, each in measured.found.items()
    ]


def _judged(metric: str, found: Found, measured: Measured, limits: QualityLimits) -> GateResult:
    name, least, most = f"quality.{metric}", limits.least_of(metric), limits.most_of(metric)
    limit = least if most is None else most
    shown, more = found.said(name, ".6g" if metric in _IN_UNITS else ".4f")
    more += refused_beside(measured.refused)
    if limit is None:
        verdict, message = Verdict.NOT_APPLICABLE, f"{shown}{more} (shown, not judged)"
    elif found.value is None:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {shown}{more}"
    elif measured.rows < limits.minimum_rows:
        verdict = Verdict.INCONCLUSIVE
        message = f"INCONCLUSIVE: {shown} {too_few(measured.rows, limits.minimum_rows)}{more}"
    elif (least is None or found.value >= least) and (most is None or found.value <= most):
        verdict, message = Verdict.PASSED, f"PASS {shown} {'>=' if most is None else '<='} {limit:g}{more}"
    else:
        verdict, message = Verdict.FAILED, f"FAIL: {shown} {'<' if most is None else '>'} {limit:g}{more}"
    return GateResult(name, verdict, message, found.value, found.interval, limit, table=found.table)


# Metrics in the unit of the target, or of the costs.
_IN_UNITS = frozenset({"rmse", "mae", "value"})

QUALITY = Gate(
    name="quality",
    description="Every metric of the task that has a limit is within it, as measured on the evaluation set; those that"
    " have none are shown. Of two classes: precision TP / (TP + FP), recall TP / (TP + FN) and F1, their harmonic mean,"
    " of the positive class, ROC AUC (the share of pairs in the right order, Hanley & McNeil 1982), average precision"
    " (the area under the steps of precision by recall) and log loss (the mean negative logarithm of the true class's"
    " probability). Of several: the means of precision, recall and F1 over the classes, and of the AUC of each against"
    " the others; where no row is of a class these are not known, and those that have a limit are inconclusive. Of a"
    " regression: RMSE and MAE. And the expected value of a row, which is its mean cost by the costs"
    " of the policy, taken negative. By default only an AUC below 0.5 stops a version, because that is worse than"
    " chance: what else is good enough depends on the task. The 95 % intervals are percentiles of 2,000 resamples"
    " (Efron 1979), beyond 5,000 numbers the normal ones of the infinitesimal jackknife over all rows (Efron 1982)."
    " Rows that the version was trained on are left out.",
    limits=QualityLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    on_sets=OnSets.LIMITED,
    parts=frozenset({*Least.model_fields, *Most.model_fields, "value"}),
)
