"""Gate: which evaluation rows the candidate and the champion were trained on is known, and such rows judge nothing.

Whoever trains says which rows those are. So no version may choose by it which rows judge it: not too many are left out,
and not those that its model finds hard.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from pipelines.domain.description import Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.quality.intervals import Estimate, estimated
from pipelines.evaluation.gates.quality.measures import AUC

# Fewer rows on one side tell nothing of how hard they are.
_FEWEST_COMPARED = 10
_COVERAGE = 0.98


class TrainingRowsLimits(Limits):
    """What becomes of a version that does not say which rows it was trained on."""

    unknown: Literal["hold", "accept"] = Field(
        "hold",
        description="where a version does not say which rows it was trained on: `hold` it for a person, or `accept`",
    )
    most_left_out: float = Field(
        0.5,
        gt=0,
        le=1,
        description="the share of the evaluation set that may be left out because the candidate was trained on it",
    )
    most_harder: float = Field(
        0.55,
        ge=0.5,
        le=1,
        description="the chance that the candidate errs more on a row left out than on another: 0.5 where they are"
        " alike, less where it was trained on them",
    )


@dataclass(frozen=True)
class Overlap:
    """How many of so many evaluation rows a version was trained on, None where that is unknown."""

    rows: int
    trained_on: int | None


@dataclass(frozen=True)
class Harder:
    """With what chance a model errs more on a row left out than on another, and its 98 % interval.

    None where no model can be asked to say so, with `why`.
    """

    chance: Estimate | None
    left_out: int
    others: int
    why: str = ""


@dataclass(frozen=True)
class Overlaps:
    """By who was trained, the candidate, and the champion where there is one; and what is left out of the candidate."""

    of: dict[str, Overlap]
    harder: Harder | None = None


def measure(world: Offline, limits: TrainingRowsLimits) -> Overlaps:
    """Count the rows of the evaluation set that both were trained on, and ask the candidate how hard its own are."""
    bundles = {"candidate": world.candidate} | ({"champion": world.champion} if world.champion else {})
    return Overlaps({name: _overlap(bundle) for name, bundle in bundles.items()}, _harder(world))


def _harder(world: Offline) -> Harder | None:
    """Compare how far the candidate is off on the rows that it is said to be trained on, and on the others."""
    import numpy as np

    trained_on = world.candidate.trained_on
    if trained_on is None or not trained_on.any():
        return None
    taken, scores = world.candidate.asked
    left_out, actual = trained_on[taken], world.actual[taken]
    counts = int(left_out.sum()), int((~left_out).sum())
    if min(counts) < _FEWEST_COMPARED:
        return Harder(None, *counts, f"fewer than {_FEWEST_COMPARED} rows on a side")
    if world.task is Task.REGRESSION:
        off = np.abs(scores.values - actual)
    else:
        off = np.ones(len(actual))
        for number, each in enumerate(world.candidate.description.output.classes):
            of_it = actual == label_text(each)
            off[of_it] = 1 - scores.numbers[of_it, number]
    # An answer that is no number is as wrong as one can be, and so is every answer to a class that the model lacks.
    off = np.where(np.isfinite(off), off, np.inf)
    return Harder(estimated(AUC, off, left_out, _COVERAGE), *counts)


def _overlap(bundle: OpenedBundle) -> Overlap:
    trained_on = None if bundle.trained_on is None else int(bundle.trained_on.sum())
    return Overlap(len(bundle.snapshot.frame), trained_on)


def judge(found: Overlaps, limits: TrainingRowsLimits) -> list[GateResult]:
    """Pass what is known: rows of an overlap are left out, and too few that are left decide nothing.

    Which of the candidate's are left out must not be more than the limit, nor proven to be the hard ones.
    """
    results = [_judged(f"training_rows.{name}", each, limits) for name, each in found.of.items()]
    return results + ([_judged_harder(found.harder, limits)] if found.harder else [])


def _judged_harder(found: Harder, limits: TrainingRowsLimits) -> GateResult:
    name, limit = "training_rows.left_out", limits.most_harder
    if found.chance is None:
        said = f"how hard the {found.left_out:,} rows left out are is not compared: {found.why}"
        return GateResult(name, Verdict.NOT_APPLICABLE, f"{name}: {said}")
    value, (low, high) = found.chance.value, found.chance.interval
    shown = f"the candidate errs more on a row left out than on another with a chance of {value:.4f}"
    shown += f", 98 % interval {low:.4f} to {high:.4f} ({found.left_out:,} and {found.others:,} rows)"
    if low > limit:
        why = f"beyond {limit:g}, as if those were left out that it gets wrong"
        return GateResult(
            name, Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {name}: {shown}: {why}", value, (low, high), limit
        )
    return GateResult(
        name, Verdict.PASSED, f"PASS {name}: {shown}, not proven beyond {limit:g}", value, (low, high), limit
    )


def _judged(name: str, found: Overlap, limits: TrainingRowsLimits) -> GateResult:
    if found.trained_on is None:
        said = f"{name}: unknown which of the {found.rows:,} evaluation rows it was trained on"
        if limits.unknown == "accept":
            return GateResult(name, Verdict.PASSED, f"PASS {said}, which the policy accepts")
        return GateResult(name, Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {said}, so none could be left out")
    left_out = f"{found.trained_on:,} of {found.rows:,} evaluation rows are ones that it was trained on, and left out"
    share = found.trained_on / found.rows if found.rows else 0.0
    if name == "training_rows.candidate" and share > limits.most_left_out:
        few = f"{share:.0%}, more than {limits.most_left_out:.0%}: the rest is its own choice of rows"
        return GateResult(
            name, Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {name}: {left_out}, {few}", float(found.trained_on)
        )
    none = f"it was trained on none of the {found.rows:,} evaluation rows"
    return GateResult(
        name, Verdict.PASSED, f"PASS {name}: {left_out if found.trained_on else none}", observed=float(found.trained_on)
    )


TRAINING_ROWS = Gate(
    name="training_rows",
    description="It is known of the candidate and of the champion which rows of the evaluation set they were trained"
    " on. The candidate is measured without those of its own, and compared without those of both; how many they are is"
    " said. Where a version does not say what it was trained on, the candidate is held for a person, unless the policy"
    " accepts it. Who trains says which rows those are, and could name the ones that the model gets wrong. So the"
    " candidate is held, too, where more than half of the rows are left out, and where it errs more on them than on the"
    " rest: of a model that was trained on rows, the chance that it errs more on one of them than on another row (the"
    " Mann-Whitney statistic of 1 less the probability of the true class, or of the absolute error) is 0.5 at most."
    " It is held where the one-sided 99 % bound of this chance is above 0.55, if ten rows or more are on each side. As"
    " no more than half may be left out, hard rows can't be hidden among easy ones in any number.",
    limits=TrainingRowsLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    undecided="register the version with the hashes of its training rows, as training does (docs/models.md), and have"
    " more rows evaluated where few are left",
)
