"""What a person has to know of a report first: may it go on, what is the riskiest thing, and what changes for users.

Page, description, card and terminal say it in the same words, which are of a report alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.domain.description import Task
from pipelines.domain.figures import Metric, Versus
from pipelines.domain.report import Report
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict

# What a load run says of itself: how near that is to its limit is no risk of the version.
_OF_THE_MEASURING = {
    "achieved_rate", "control", "data", "generator_cpu", "repeats", "sample_size", "send_lag", "validity", "versions",
}  # fmt: skip
_WORST = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE)
_NAMES = {
    Metric.ACCURACY: "accuracy",
    Metric.PRECISION: "precision",
    Metric.RECALL: "recall",
    Metric.F1: "F1",
    Metric.AUC: "ROC AUC",
    Metric.LOG_LOSS: "log loss",
    Metric.BRIER: "Brier score",
    Metric.RMSE: "RMSE",
    Metric.MAE: "MAE",
    Metric.R2: "R2",
}


@dataclass(frozen=True)
class Summary:
    """The first screen of a report; `risk` is the gate that is meant, None where none has a number to be near to."""

    may_go: str
    risk: GateResult | None
    why: str
    changes: tuple[str, ...]


def summary_of(report: Report) -> Summary:
    """Return what a person has to know first."""
    risk = riskiest(report.gates)
    return Summary(_may_go(report), risk, _why(risk), tuple(_changes(report)))


def metric_name(metric: Metric) -> str:
    """Return what people call a metric."""
    return _NAMES[metric]


def class_name(classes: Sequence[str], position: int) -> str:
    """Return the name of a class by its position in the bundle; its number where the report has no name of it."""
    return classes[position] if position < len(classes) else f"class {position + 1}"


def riskiest(results: Iterable[GateResult]) -> GateResult | None:
    """Return the gate that stopped a version, or only warned of it; or of those passed the one nearest to its limit."""
    found = list(results)
    for may_go_on in (False, True):
        for verdict in _WORST:
            stopping = (each for each in found if each.verdict is verdict and each.goes_on is may_go_on)
            if first := next(stopping, None):
                return first
    near = [(room, each) for each in found if (room := headroom(each)) is not None]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def headroom(result: GateResult) -> float | None:
    """Return how far a passed gate is from its limit, as a share, so that gates of all units can be compared.

    Outside of the interval it is the distance of the limit to the interval's nearer end (or to what was observed, where
    there is none) over the larger of limit and observed value. A limit within the interval is nearer than any other: it
    is -1 where it is what was observed, 0 at an end of the interval. That holds of gates that need proof to stop a
    version as well, which pass also with an observed value beyond the limit. None where a gate has no such numbers, or
    speaks of the measuring alone.
    """
    observed, limit = result.observed, result.limit
    if result.verdict is not Verdict.PASSED or observed is None or limit is None:
        return None
    if not all(map(math.isfinite, (observed, limit, *(result.interval or ())))):
        return None
    if result.name.rpartition(".")[2] in _OF_THE_MEASURING or observed == limit == 0:
        return None
    low, high = result.interval or (observed, observed)
    if low <= limit <= high and low < high:
        far = (observed - low) if limit < observed else (high - observed)
        return abs(observed - limit) / far - 1 if far > 0 else -1.0
    return min(abs(low - limit), abs(high - limit)) / (max(abs(limit), abs(observed)) or 1.0)


def _may_go(report: Report) -> str:
    stopped = [each for each in report.gates if not each.goes_on]
    names = ", ".join(dict.fromkeys(each.name for each in stopped if each.verdict is report.verdict))
    if report.verdict is Verdict.FAILED:
        return f"No. Stopped by {names}."
    if report.verdict is Verdict.ERROR:
        return f"Not yet. {names} could not be measured."
    if report.verdict is not Verdict.PASSED:
        return f"Not yet. Undecided: {names or 'nothing was measured'}."
    if report.profile is Profile.DEMO:
        return "Only where the policy takes demo evidence, of short load runs; then once another person approves it."
    return "Yes, once another person approves this report."


def _why(risk: GateResult | None) -> str:
    if risk is None:
        return "Every gate passed, and none has a limit to be near to."
    if not risk.goes_on:
        return {Verdict.FAILED: "It failed.", Verdict.ERROR: "It could not be measured."}.get(
            risk.verdict, "There is too little evidence to decide it."
        )
    if risk.warn_only and not risk.verdict.goes_on:
        return "It would have stopped the version; the policy has it warn only."
    room = headroom(risk)
    assert room is not None
    if room < 0:
        return "It passed, and of all gates is nearest to its limit, which lies within its interval."
    return f"It passed, and of all gates is nearest to its limit, with {room:.1%} of it to spare."


def _changes(report: Report) -> Iterable[str]:
    if report.champion is None:
        yield "Nothing serves production yet, so there is nothing to compare with."
        return
    versus = report.figures.versus if report.figures else None
    if versus is None:
        yield f"How answers differ from version {report.champion.version}, which serves production, was not measured."
    else:
        yield _decisions(report, versus)
        if said := _metrics(versus):
            yield said
    if report.breaking:
        yield f"Clients have to change, as declared ({report.breaking.reason}): {'; '.join(report.breaking.changes)}."
    elif report.schema_changes is not None:
        told = "; ".join(report.schema_changes)
        yield f"Requests and answers: {told}." if told else "Requests and answers keep their form."


def _decisions(report: Report, versus: Versus) -> str:
    assert report.champion is not None
    share = versus.changed / versus.rows if versus.rows else 0.0
    of = f"{versus.changed:,} of {versus.rows:,} rows ({share:.1%})"
    against = f"version {report.champion.version}, which serves production"
    if report.task is Task.REGRESSION:
        return (
            f"{of} are answered more than 1 % off {against}: {versus.better:,} nearer to the truth,"
            f" {versus.worse:,} farther; a value moves by {versus.mean_shift:.4g} on average."
        )
    return (
        f"{of} are decided otherwise than by {against}: {versus.better:,} rightly now, {versus.worse:,} wrongly now;"
        f" a probability moves by {versus.mean_shift:.4g} on average."
    )


def _metrics(versus: Versus) -> str:
    told = [
        f"{metric_name(each.metric)} {each.candidate:.4g} ({each.candidate - each.champion:+.4g})"
        for each in versus.metrics
    ]
    return f"On these rows: {', '.join(told)}." if told else ""
