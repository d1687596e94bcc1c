"""Gate: in no part of the rows is the version proven to be worse than what can be reached there.

Parts are those of every feature and of every two features. Hundreds of them are looked at, so bounds hold for all of
them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.verdict import Cell, GateResult, Table, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.groups.bins import Binned, binned
from pipelines.evaluation.gates.groups.losses import ERROR, LOG_LOSS, MAE, Judged, Losses, losses_of
from pipelines.evaluation.gates.groups.moments import Slices, bounds_of, slices_of
from pipelines.evaluation.gates.groups.yardstick import champion_losses, learned_losses
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, sampled, too_few
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of more rows than this so many are drawn.
MOST_ROWS = 100_000
LEVEL = 0.05
_SHOWN = 15
_LEAST = 1e-12
_UNITS = {ERROR: "error rate", LOG_LOSS: "log loss", MAE: "mean absolute error in that of all rows"}


class SlicesLimits(Limits):
    """How much worse than what can be reached a slice may be, and which slices are looked at."""

    error_margin: float = Field(0.02, gt=0, lt=1, description="by how much the error rate of a slice may be higher")
    log_loss_margin: float = Field(0.05, gt=0, description="by how much its log loss may be higher")
    mae_margin: float = Field(
        0.1, gt=0, description="by what share of the mean absolute error of all rows a slice's may be higher"
    )
    minimum_slice_rows: int = Field(FEWEST_ROWS, ge=2, description="a slice of fewer rows is not judged")
    minimum_slice_share: float = Field(0.01, ge=0, lt=1, description="nor one of a smaller share of the rows")
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Excess:
    """A slice: its metric, the yardstick's on its rows, and by how much it is above that, and above all other rows.

    The last two are mean, lower and upper bound. What the other rows lose is taken off the first.
    """

    name: str
    rows: int
    metric: float
    yardstick: float
    worse: tuple[float, float, float]
    above_the_rest: tuple[float, float, float]


@dataclass(frozen=True)
class Looked:
    """The slices of a metric that are the worst for the version, and those that are hard, the worst first."""

    metric: str
    overall: float
    worst: tuple[Excess, ...]
    hardest: tuple[Excess, ...]


@dataclass(frozen=True)
class Found:
    """What was looked at: so many rows of all that judge, and so many slices; `why` says why nothing was.

    `verdict` is that of nothing looked at.
    """

    rows: int = 0
    of: int = 0
    slices: int = 0
    metrics: tuple[Looked, ...] = field(default=())
    by_production: bool = False
    why: str = ""
    verdict: Verdict = Verdict.INCONCLUSIVE


def measure(world: Offline, limits: SlicesLimits) -> Found:
    """Compare the candidate's losses with the yardstick's in every slice."""
    import numpy as np

    judged, scores = world.candidate.judged
    if not np.isfinite(scores.numbers).all():
        return Found(why="an answer is not a finite number", verdict=Verdict.ERROR)
    champion = champion_losses(world)
    shared = judged & champion.rows if champion else judged
    by_production = champion is not None and int(shared.sum()) >= limits.minimum_rows
    rows = np.flatnonzero(shared if by_production else judged)
    if len(rows) < limits.minimum_rows:
        return Found(why=too_few(len(rows), limits.minimum_rows))
    chosen = sampled(rows, MOST_ROWS)
    ours = Judged(judged, losses_of(scores, world.candidate.description, world.actual[judged])).on(chosen)
    theirs = champion.on(chosen) if champion and by_production else learned_losses(world, chosen)
    described = world.snapshot.description.features
    features = binned(world.snapshot.frame.iloc[chosen], described)
    return replace(look(features, ours, theirs, limits, by_production=by_production), of=len(rows))


def look(
    features: Sequence[Binned], ours: Losses, theirs: Losses, limits: SlicesLimits, *, by_production: bool
) -> Found:
    """Return what the slices of some rows hold of two losses on them."""
    import numpy as np

    rows = len(next(iter(ours.values())))
    pairs = [_Pair.of(metric, values, theirs[metric]) for metric, values in ours.items()]
    minimum = max(limits.minimum_slice_rows, int(np.ceil(limits.minimum_slice_share * rows)))
    slices = slices_of(features, np.array([weight for each in pairs for weight in each.weights]), minimum)
    if not len(slices.counts):
        return Found(rows, why=f"no slice of the {rows:,} rows has {minimum:,} of them", verdict=Verdict.NOT_APPLICABLE)
    level = LEVEL / (slices.of * len(pairs))
    sums = slices.sums.reshape(len(pairs), -1, len(slices.counts))
    metrics = tuple(
        _looked(each, slices, own, level=level, by_production=by_production)
        for each, own in zip(pairs, sums, strict=True)
    )
    return Found(rows, slices=len(slices.counts), metrics=metrics, by_production=by_production)


@dataclass(frozen=True)
class _Pair:
    """The losses of both on the same rows (n,), and by how much ours are higher."""

    metric: str
    ours: "NDArray[np.float64]"
    theirs: "NDArray[np.float64]"
    difference: "NDArray[np.float64]"

    @classmethod
    def of(cls, metric: str, ours: "NDArray[np.float64]", theirs: "NDArray[np.float64]") -> "_Pair":
        """Take errors of values by their mean; values that are never missed have none to go by."""
        scale = max(float(ours.mean()), _LEAST) if metric == MAE else 1.0
        return cls(metric, ours / scale, theirs / scale, (ours - theirs) / scale)

    @property
    def weights(self) -> "list[NDArray[np.float64]]":
        """What is summed over slices."""
        return [self.ours, self.ours**2, self.difference, self.difference**2, self.theirs]


def _looked(pair: _Pair, slices: Slices, sums: "NDArray[np.float64]", *, level: float, by_production: bool) -> Looked:
    """Bound a metric in all slices by the sums of its weights (5, s)."""
    import numpy as np

    hard = bounds_of(slices.counts, sums[0], sums[1], pair.ours, level, against_the_rest=True)
    worse = bounds_of(slices.counts, sums[2], sums[3], pair.difference, level, against_the_rest=False)
    # What the other rows lose as well is the comparison's to judge.
    elsewhere = (pair.difference.sum() - sums[2]) / (len(pair.difference) - slices.counts)
    worse = worse.less(np.maximum(elsewhere, 0.0))

    def described(place: int) -> Excess:
        ours, theirs = (float(each[place] / slices.counts[place]) for each in (sums[0], sums[4]))
        return Excess(slices.name(place), int(slices.counts[place]), ours, theirs, worse.at(place), hard.at(place))

    proven = worse.lower if by_production else np.minimum(worse.lower, hard.lower)
    worst, hardest = (np.argsort(-each, kind="stable")[:_SHOWN] for each in (proven, hard.lower))
    return Looked(pair.metric, float(pair.ours.mean()), tuple(map(described, worst)), tuple(map(described, hardest)))


def judge(found: Found, limits: SlicesLimits) -> list[GateResult]:
    """Fail a metric by which a slice is proven to be worse than its margin allows."""
    if found.why:
        said = f"slices: {found.why}"
        stopped = found.verdict is not Verdict.NOT_APPLICABLE
        return [GateResult("slices", found.verdict, f"{found.verdict.upper()}: {said}" if stopped else said)]
    margins = {ERROR: limits.error_margin, LOG_LOSS: limits.log_loss_margin, MAE: limits.mae_margin}
    return [_judged(each, found, margins[each.metric]) for each in found.metrics]


def _judged(looked: Looked, found: Found, margin: float) -> GateResult:
    name, worst, whose = f"slices.{looked.metric}", looked.worst[0], _whose(found)
    harmed = [each for each in looked.worst if _harmed(each, margin, found)]
    difference, lower, upper = worst.worse
    said = (
        f"where {worst.name} ({worst.rows:,} rows) the {_UNITS[looked.metric]} is {worst.metric:.4f}, in all rows"
        f" {looked.overall:.4f}, and {worst.yardstick:.4f} {whose}; bounds of the difference {lower:+.4f} and"
        f" {upper:+.4f}"
    )
    among = f", of {found.slices:,} slices of {_on(found)}"
    if harmed:
        more = f"; {len(harmed) - 1} or more other slices too" if len(harmed) > 1 else ""
        verdict, message = Verdict.FAILED, f"FAIL: {name}={difference:.4f} > {margin:g}: {said}{more}{among}"
    else:
        verdict = Verdict.PASSED
        message = (
            f"PASS {name}={difference:.4f}, not proven above {margin:g}: {said}{_hard(looked, margin, whose)}{among}"
        )
    table = _table(looked, margin, found)
    return GateResult(name, verdict, message, difference, (lower, upper), margin, margin, table=table)


def _harmed(each: Excess, margin: float, found: Found) -> bool:
    """Whether a slice is proven to be worse; by a learned yardstick it has to be worse than all other rows as well."""
    return each.worse[1] > margin and (found.by_production or each.above_the_rest[1] > margin)


def _hard(looked: Looked, margin: float, whose: str) -> str:
    """Say which slice is proven to be worse than all other rows, and no worse than can be reached there."""
    hardest = looked.hardest[0]
    if hardest.above_the_rest[1] <= margin:
        return ""
    return f"; hard also {whose}: {hardest.name}, {hardest.metric:.4f} against {hardest.yardstick:.4f}"


def _whose(found: Found) -> str:
    return "by production" if found.by_production else "by a model learned from these rows"


def _on(found: Found) -> str:
    return f"{found.rows:,} rows" + (f" drawn of {found.of:,}" if found.of > found.rows else "")


def _table(looked: Looked, margin: float, found: Found) -> Table:
    known = {each.name: each for each in (*looked.worst, *looked.hardest)}
    rows: list[tuple[Cell, ...]] = []
    for each in known.values():
        harmed, hard = _harmed(each, margin, found), each.above_the_rest[1] > margin
        said = "worse than it may be" if harmed else "hard" if hard else ""
        shown = (each.name, each.rows, each.metric, looked.overall, each.yardstick)
        rows.append((*shown, *each.worse, *each.above_the_rest[:2], said))
    columns = (
        "slice",
        "rows",
        _UNITS[looked.metric],
        "in all rows",
        _whose(found),
        "worse by",
        "at least",
        "at most",
        "above other rows by",
        "at least that",
        "finding",
    )
    return Table(columns, tuple(rows))


SLICES = Gate(
    name="slices",
    description="In no slice of the rows is the version proven to be worse than what can be reached there. Slices"
    " are those of every feature and of every two: categories, numbers by their quarters (by value where there"
    " are at most 8), dates by year, texts by length, and what is missing; each has at least the minimum of"
    " rows, and of two of the same rows one counts. Where there are more than 400 of one feature, two are those of"
    " the features that losses differ most by, and the correction counts all. In each, a classifier's error rate"
    " and log loss (a probability below 1 % counts as 1 %), and a regression's mean absolute error as a share of"
    " that of all rows, are held against a yardstick on the same rows: what production answers, or without a champion"
    " to compare with, gradient boosting learned from these rows alone, each answered by a model that did not see"
    " it. So a slice that is hard for everybody is no harm, and is named as hard. The difference in a slice is"
    " mean(ours - theirs) less what the other rows lose, max(0, the same over them), which is the comparison's"
    " to judge. A slice fails where the lower bound of the difference is above the margin, and where only a"
    " learned yardstick says so, that of its difference from all other rows too. Bounds are Student's t at 5 %"
    " by the number of slices and metrics looked at (Bonferroni; Dunn 1961), for a difference from the other"
    " rows Welch's (1947). Slices are cut as Slice Finder cuts them (Chung et al. 2019). Of more than 100,000"
    " rows so many are drawn. The defaults stop none of the good retrains measured in decision 59.",
    limits=SlicesLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    on_sets=OnSets.LIMITED,
    parts=frozenset({ERROR, LOG_LOSS, MAE}),
)
