"""Gate: the candidate is not worse than the champion on the same evaluation rows.

Non-inferiority of each metric of the task: a paired bootstrap keeps what both models find hard together.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from pipelines.domain.description import Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.offline.rows import FEWEST_OF_A_CLASS, FEWEST_ROWS, FEWEST_ROWS_MEANS, too_few
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.answers import Unmeasured, class_numbers
from pipelines.evaluation.gates.quality.differences import Difference, Found, accuracies, compare, f1_of

if TYPE_CHECKING:
    import numpy as np

    from pipelines.domain.description import Description
    from pipelines.evaluation.gates.offline.world import OpenedBundle
    from pipelines.packaging.onnx_model import Scores

Name = Literal["auc", "average_precision", "f1", "log_loss", "accuracy", "rmse", "mae", "r2"]


class ComparisonLimits(Limits):
    """Non-inferiority margins against the champion."""

    margin: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="how much lower than the champion's AUC, average precision, F1, accuracy and R2 may be",
    )
    relative_margin: float = Field(
        0.02, gt=0, lt=1, description="by what share of the champion's log loss, RMSE and MAE may be higher"
    )
    widening: float = Field(
        8,
        ge=1,
        le=20,
        description="up to how many times a margin is widened on few rows, to what a version of the champion's quality"
        " can be proven within; 1 widens none",
    )
    proven: tuple[Name, ...] = Field(
        ("auc", "rmse"),
        min_length=1,
        strict=False,
        description="metrics by which a version has to be proven no worse; by the others it must not be proven worse",
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


_PASSES = 1.25
_SHOWN = {
    "": "AUC",
    "auc": "macro AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
}


def measure(world: Offline, limits: ComparisonLimits) -> Found:
    """Compare both models on the rows that neither was trained on, and that both can be asked.

    Where the set in force lacks a column that the champion needs, they are compared on the one that production was
    judged by.
    """
    assert world.champion is not None
    candidate, champion = world.candidate.description, world.champion.description
    lacking = _lacking(world.champion, "champion") or _lacking(world.candidate, "candidate")
    accepted = world.accepted if lacking else None
    if accepted and accepted.champion and not accepted.champion.lacking and not accepted.candidate.lacking:
        found = _forgotten(world, accepted) or measure(replace(accepted, accepted=None), limits)
        return {name: _of_the_accepted(each, accepted) for name, each in found.items()}
    if lacking:
        return _nothing(Verdict.INCONCLUSIVE, f"the evaluation set lacks {lacking}")
    if champion.task is not candidate.task:
        return _nothing(
            Verdict.INCONCLUSIVE, f"the champion is a {champion.task} model, the candidate a {candidate.task} one"
        )
    if set(map(label_text, champion.output.classes)) != set(map(label_text, candidate.output.classes)):
        return _nothing(Verdict.INCONCLUSIVE, "the champion knows other classes")
    try:
        taken, theirs = world.champion.asked
    except NotServable as refusal:
        # Nothing that the candidate is to blame for.
        return _nothing(Verdict.ERROR, f"the champion on these rows: {refusal.message}")
    ours_taken, ours = world.candidate.asked
    rows = taken & ours_taken & world.champion.unseen & world.candidate.unseen
    left, unasked = int(rows.sum()), int((~taken).sum())
    if left < limits.minimum_rows:
        why = f"{too_few(left, limits.minimum_rows)}: {len(rows):,} less those left out"
        return _nothing(Verdict.INCONCLUSIVE, f"{why}, of which production takes {unasked:,} as no request")
    on = _on(left, len(rows), unasked=unasked)
    truth = _truth(world, rows)
    if isinstance(truth, Unmeasured):
        return {"": truth}
    of_ours, of_theirs = rows[ours_taken], rows[taken]
    answers = _answers(ours, world.candidate, world.candidate)[of_ours]
    others = _answers(theirs, world.champion, world.candidate)[of_theirs]
    found = dict(compare(candidate.task, answers, others, truth, limits.proven))
    if all(isinstance(each, Difference) for each in found.values()):
        found |= _labelled(world, rows, ours.take(_at(of_ours)), theirs.take(_at(of_theirs)), limits)
        found |= _of_a_rare_class(found, candidate, truth, limits)
    return {name: replace(each, on=on) if isinstance(each, Difference) else each for name, each in found.items()}


def _at(rows: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.flatnonzero(rows)


def _labelled(
    world: Offline, rows: "np.ndarray", ours: "Scores", theirs: "Scores", limits: ComparisonLimits
) -> dict[str, Difference | Unmeasured]:
    """Compare the classes that are answered to some rows; nothing of a regression."""
    if ours.labels is None or theirs.labels is None:
        return {}
    truth, positive = world.actual[rows], world.candidate.description.output.positive
    found: dict[str, Difference | Unmeasured] = {"accuracy": accuracies(ours.labels == truth, theirs.labels == truth)}
    if positive is not None and "f1" in limits.proven:
        found["f1"] = f1_of(*(each == label_text(positive) for each in (ours.labels, theirs.labels, truth)))
    return found


def _of_a_rare_class(
    found: Found, candidate: "Description", truth: "np.ndarray", limits: ComparisonLimits
) -> dict[str, Unmeasured]:
    """Say which metrics of two classes too few rows of one tell nothing of: their resamples hardly differ."""
    fewest = int(min(truth.sum(), (~truth).sum())) if candidate.task is Task.BINARY else FEWEST_OF_A_CLASS
    if fewest >= FEWEST_OF_A_CLASS:
        return {}
    why = f"{fewest:,} rows of a class, fewer than {FEWEST_OF_A_CLASS}"
    return {
        name: Unmeasured(Verdict.INCONCLUSIVE, why)
        if (name or "auc") in limits.proven
        else Unmeasured(Verdict.NOT_APPLICABLE, f"not compared: {why}")
        for name in ("", "average_precision", "f1")
        if name in found
    }


def _lacking(bundle: "OpenedBundle", whose: str) -> str:
    """Name the columns that a version needs and its set lacks, "" for none."""
    return f"the {whose}'s {', '.join(bundle.lacking)}" if bundle.lacking else ""


def _forgotten(world: Offline, accepted: Offline) -> Found | None:
    """Say of whom the accepted set alone does not tell what it was trained on, of which no other gate speaks."""
    pairs = {"candidate": (world.candidate, accepted.candidate), "champion": (world.champion, accepted.champion)}
    for name, (here, there) in pairs.items():
        if here and there and here.trained_on is not None and there.trained_on is None:
            return _nothing(Verdict.INCONCLUSIVE, f"unknown on which rows the {name} was trained")
    return None


def _of_the_accepted(found: Difference | Unmeasured, world: Offline) -> Difference | Unmeasured:
    said = f" of the set that production was judged by ({world.snapshot.digest})"
    if isinstance(found, Unmeasured):
        return replace(found, why=found.why + said)
    return replace(found, on=f"{found.on or f', on the {len(world.snapshot.frame):,} rows'}{said}")


def _truth(world: Offline, rows: "np.ndarray") -> "np.ndarray | Unmeasured":
    """Return the truth of some rows as `compare` takes it."""
    output, truth = world.candidate.description.output, world.actual[rows]
    if world.task is Task.REGRESSION:
        values: np.ndarray = truth
        return values
    classes = tuple(map(label_text, output.classes))
    numbers = class_numbers(truth, classes)
    if isinstance(numbers, Unmeasured) or output.positive is None:
        return numbers
    positive: np.ndarray = numbers == classes.index(label_text(output.positive))
    return positive


def _nothing(verdict: Verdict, why: str) -> Found:
    return {"": Unmeasured(verdict, why)}


def _on(rows: int, of: int, *, unasked: int) -> str:
    """Say which rows were compared, where they are not all of the set."""
    if rows == of:
        return ""
    said = f", on {rows:,} of {of:,} rows"
    return f"{said} ({unasked:,} are none that production takes)" if unasked else said


def judge(found: Found, limits: ComparisonLimits) -> list[GateResult]:
    """Judge the one-sided 95 % bounds of each difference against its margin."""
    return [_judged(metric, each, limits) for metric, each in found.items()]


def _judged(metric: str, found: Difference | Unmeasured, limits: ComparisonLimits) -> GateResult:
    name = f"comparison.{metric}" if metric else "comparison"
    if isinstance(found, Unmeasured):
        return found.result(name)
    passes, fails = _margins(found, limits)
    given = limits.relative_margin if found.relative else limits.margin
    (lower, upper), observed = found.interval, found.observed
    unit = (
        f"of production's {_SHOWN[metric]}, better where positive"
        if found.relative
        else f"{_SHOWN[metric]} against production"
    )
    shown = f"{name}={observed:+.4f} {unit}, one-sided 95 % bounds {lower:+.4f} and {upper:+.4f}{found.told}{found.on}"
    said = f"margin {given:g}" if passes == given else f"margin {passes:.4f} ({given:g}, widened for so few rows)"
    limit = -passes
    if lower > -passes:
        verdict, message = Verdict.PASSED, f"PASS {shown}, {said}"
    elif upper < -fails:
        limit = -fails
        verdict, message = Verdict.FAILED, f"FAIL: {name}={observed:.4f} < {limit:g} ({shown})"
    elif (metric or "auc") in limits.proven or not upper >= -fails:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {shown}, {said}"
    else:
        verdict = Verdict.NOT_APPLICABLE
        message = f"{shown}, {said}: proven neither worse nor no worse (shown, not judged)"
    return GateResult(name, verdict, message, observed, found.interval, limit, table=found.table)


def _margins(found: Difference, limits: ComparisonLimits) -> tuple[float, float]:
    """Return the margins within which a difference passes and beyond which it fails; never both hold.

    Of a version that is as good as the champion, the lower bound is above the negative width of the interval in 95 of
    100 cases, so no narrower margin can be asked for; a quarter more is for what another training changes. It is beyond
    the width, and so its upper bound beyond half of it, in one of 2,000.
    """
    given = limits.relative_margin if found.relative else limits.margin
    most, width = limits.widening * given, found.interval[1] - found.interval[0]
    return max(given, min(most, _PASSES * width)), max(given, min(most, width / 2))


def _answers(scores: "Scores", model: "OpenedBundle", candidate: "OpenedBundle") -> "np.ndarray":
    """Return what of a model's scores is compared, its classes in the candidate's order."""
    output = candidate.description.output
    if candidate.description.task is Task.REGRESSION:
        return scores.values
    order = [label_text(each) for each in model.description.output.classes]
    if output.positive is not None:
        return scores.numbers[:, order.index(label_text(output.positive))]
    return scores.numbers[:, [order.index(label_text(each)) for each in output.classes]]


COMPARISON = Gate(
    name="comparison",
    description="The candidate is not worse than the champion on the same evaluation rows. Compared are, of two"
    " classes, ROC AUC, log loss and accuracy; of several, macro AUC, macro F1, log loss and accuracy; of a regression,"
    " RMSE, MAE and R2. By the metrics that are to be proven (AUC and RMSE by default; a policy may name others, of two"
    " classes average precision and F1 too) a version passes if the one-sided 95 % bound of the difference is above the"
    " margin (non-inferiority), fails if the other bound is beyond it, and is inconclusive between. By all others it"
    " fails where it is proven worse, and is not stopped where nothing is proven: each of them would hold a good"
    " version now and then. On few rows no version can be proven within the margin, so it is widened to 1.25 times the"
    " width of the interval, at most `widening` times: a retrain of the same quality is then held or stopped in at most"
    " 5 of 100 cases. The bounds are those of a paired bootstrap (Efron 1979), beyond 5,000 numbers of the"
    " infinitesimal jackknife over all rows (of the AUC: DeLong, DeLong & Clarke-Pearson 1988), and of the accuracy"
    " exact ones of the rows that only one of the two answers rightly (McNemar 1947, Clopper & Pearson 1934). Of two"
    " classes with fewer than ten rows of one, AUC, average precision and F1 prove nothing. Rows that one of them was"
    " trained on, and rows that production would not take as a request, are left out and counted.",
    limits=ComparisonLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.CHAMPION}),
    unless="no champion yet to compare with",
    overridable=True,
    on_sets=OnSets.LIMITED,
    parts=frozenset(get_args(Name)),
)
