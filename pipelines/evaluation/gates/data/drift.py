"""Gate: what the candidate was trained on is like what production was trained on, feature by feature and as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    from pipelines.evaluation.drift import Apart, Moved
    from pipelines.packaging.snapshot import Snapshot, SnapshotDescription

FEATURES, TOGETHER = "drift.features", "drift.together"
_COLUMNS = ("feature", "type", "distance", "low", "high", "missing before", "missing now", "before", "now", "verdict")
_MOST_ROWS = 60


class DriftLimits(Limits):
    """Limits on how far the rows that a version was trained on may be from those of production's training."""

    distance: float = Field(
        0.25,
        gt=0,
        le=1,
        description="the Jensen-Shannon distance of a feature: fails where the interval's lower bound is above it",
    )
    auc: float = Field(
        0.75,
        gt=0.5,
        le=1,
        description="the ROC AUC of a model that tells rows of both sides apart: fails as the distance does",
    )
    times: Literal["show", "judge"] = Field(
        "show", description="dates and times, which go on by nature: only `show` them, or `judge` them as numbers"
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description="with fewer rows of either side, nothing is decided")


@dataclass(frozen=True)
class Drift:
    """How far the candidate's reference is from `against`; `absent` says why nothing can be compared.

    `judged` are features, the furthest first, each with an interval that holds for all of them at once; `shown` are the
    target, and dates and times, which stop nobody. `left_out` names the features that one side has not, or otherwise.
    `rows` are of each side, before and now, and `odd` says what could not be measured.
    """

    against: str = ""
    rows: tuple[int, int] = (0, 0)
    sampled: str = ""
    judged: "Sequence[Moved]" = ()
    shown: "Sequence[Moved]" = ()
    left_out: Sequence[str] = ()
    apart: "Apart | None" = None
    absent: str = ""
    odd: str = ""


def measure(world: Offline, limits: DriftLimits) -> Drift:
    """Compare the rows of the candidate's training with those of production's.

    Where production has logged none, they are compared with the rows that it was judged by, and where nothing is in
    production with the evaluation set in force.
    """
    if world.candidate.reference is None:
        return Drift(absent="the version has logged no rows of its training (slipway/reference.parquet)")
    champion = world.champion
    if champion is None:
        against, before = "the evaluation set", world.snapshot
    elif champion.reference is None:
        against, before = "the rows that production was judged by", (world.accepted or world).snapshot
    else:
        against, before = "production's training", champion.reference
    try:
        return compared(before, world.candidate.reference, limits, against=against)
    except (ArithmeticError, TypeError, ValueError) as error:
        return Drift(against=against, odd=f"{type(error).__name__}: {error}")


def compared(before: "Snapshot", now: "Snapshot", limits: DriftLimits, *, against: str) -> Drift:
    """Return how far the rows of `now` are from those of `before`; raise ValueError for values that are none."""
    from pipelines.evaluation import drift

    judge_times = limits.times == "judge"
    common = drift.Common.of(before.description.features, now.description.features, judge_times=judge_times)
    target = _target(before.description, now.description)
    rows = (len(before.frame), len(now.frame))
    if min(rows) < limits.minimum_rows or not common.judged:
        why = "" if common.judged else "no feature that both sides have can be compared"
        return Drift(against, rows, left_out=common.left_out, absent=why)
    there, here = drift.sampled(before.frame), drift.sampled(now.frame)
    shown_moves = drift.moved(there, here, common.shown)
    if target:
        sides = [frame[[each.description.target]].set_axis([target.name], axis=1)
                 for frame, each in ((there, before), (here, now))]  # fmt: skip
        shown_moves = [*drift.moved(sides[0], sides[1], [target]), *shown_moves]
    return Drift(
        against=against,
        rows=rows,
        sampled=_sampled((before, len(there), "before"), (now, len(here), "now")),
        judged=common.moved(there, here),
        shown=shown_moves,
        left_out=common.left_out,
        apart=drift.apart(there, here, common.judged),
    )


def judge(found: Drift, limits: DriftLimits) -> list[GateResult]:
    """Stop what is proven to have drifted beyond a limit, by the bound of the interval that favours the version."""
    if found.absent:
        return [GateResult(FEATURES, Verdict.NOT_APPLICABLE, f"drift can't be measured: {found.absent}")]
    if found.odd:
        return [GateResult(FEATURES, Verdict.ERROR, f"ERROR: {FEATURES}: {found.odd}")]
    if min(found.rows) < limits.minimum_rows:
        message = f"INCONCLUSIVE: {FEATURES}: {_sides(found)}, fewer than {limits.minimum_rows:,}"
        return [GateResult(FEATURES, Verdict.INCONCLUSIVE, message)]
    return [_features(found, limits), _together(found, limits)]


def _features(found: Drift, limits: DriftLimits) -> GateResult:
    worst, limit = found.judged[0], limits.distance
    beyond = [each for each in found.judged if each.interval[0] > limit]
    verdict = Verdict.FAILED if beyond else Verdict.PASSED
    span = f"({worst.interval[0]:.3f} to {worst.interval[1]:.3f} over all features at 95 %)"
    shown = f"{FEATURES}: {worst.name}={worst.distance:.3f} {span}"
    beside = f", {len(found.judged)} features, {_sides(found)}{_target_shown(found)}{_left_out(found)}"
    if beyond:
        message = f"FAIL: {shown} > {limit:g}, and {len(beyond) - 1} more beyond it{beside}"
    elif worst.distance > limit:
        message = f"PASS {shown}, not proven to be > {limit:g}{beside}"
    else:
        message = f"PASS {shown} <= {limit:g}{beside}"
    return GateResult(FEATURES, verdict, message, worst.distance, worst.interval, limit, table=_table(found, limits))


def _together(found: Drift, limits: DriftLimits) -> GateResult:
    apart, limit = found.apart, limits.auc
    if apart is None:
        message = f"{_sides(found)} are too few to tell all features together apart"
        return GateResult(TOGETHER, Verdict.NOT_APPLICABLE, message)
    low, high = apart.interval
    shown = f"{TOGETHER}: AUC={apart.auc:.3f} ({low:.3f} to {high:.3f} at 95 %)"
    beside = f", telling {apart.rows[1]:,} rows of the training from {apart.rows[0]:,} of {found.against}"
    if low > limit:
        return GateResult(
            TOGETHER, Verdict.FAILED, f"FAIL: {shown} > {limit:g}{beside}", apart.auc, apart.interval, limit
        )
    compared = f"<= {limit:g}" if apart.auc <= limit else f"not proven to be > {limit:g}"
    message = f"PASS {shown} {compared}{beside}"
    return GateResult(TOGETHER, Verdict.PASSED, message, apart.auc, apart.interval, limit)


def _table(found: Drift, limits: DriftLimits) -> Table:
    def row(each: "Moved", verdict: str) -> tuple[str | float, ...]:
        numbers = (round(number, 4) for number in (each.distance, *each.interval, *each.missing))
        return (each.name, each.type, *numbers, *each.typical, verdict)

    shown = [row(each, "shown") for each in found.shown]
    judged = [row(each, _said(each, limits.distance)) for each in found.judged]
    return Table(_COLUMNS, tuple([*judged[: _MOST_ROWS - min(len(shown), 10)], *shown][:_MOST_ROWS]))


def _said(moved: "Moved", limit: float) -> str:
    if moved.interval[0] > limit:
        return "drifted"
    return "not proven" if moved.distance > limit else "like before"


def _target(before: "SnapshotDescription", now: "SnapshotDescription") -> Feature | None:
    """Return the target as a feature, under a name that no feature has; None where both sides have another task."""
    if before.task is not now.task:
        return None
    kind = FeatureType.NUMBER if now.task is Task.REGRESSION else FeatureType.CATEGORY
    name = f"{now.target} (target)"
    while name in (*before.columns, *now.columns):
        name += " (target)"
    return Feature(name, kind)


def _sides(found: Drift) -> str:
    before, now = found.rows
    return f"{now:,} rows of the training against {before:,} of {found.against}{found.sampled}"


def _sampled(*sides: "tuple[Snapshot, int, str]") -> str:
    """Say of which side not all rows were measured."""
    told = []
    for snapshot, measured, name in sides:
        of = snapshot.sampled_from or len(snapshot.frame)
        told += [f"{measured:,} of {of:,} {name}"] if measured < of else []
    return f" (a sample: {', '.join(told)})" if told else ""


def _target_shown(found: Drift) -> str:
    target = next((each for each in found.shown if each.name.endswith("(target)")), None)
    return f"; the target moved by {target.distance:.3f}" if target else ""


def _left_out(found: Drift) -> str:
    return f"; not on both sides: {len(found.left_out)}" if found.left_out else ""


DRIFT = Gate(
    name="drift",
    description="The rows that the version was trained on are like those that production was trained on; both have"
    " logged at most 20,000 of them. Where production has logged none, they are compared with the rows that it was"
    " judged by, and where nothing is in production with the evaluation set. `drift.features` takes of each feature the"
    " Jensen-Shannon distance (Lin 1991; Endres and Schindelin 2003), 0 for the same distribution and 1 for no value"
    " in common: of numbers over ten bins between the quantiles of before, of texts by their length, with missing"
    " values as a bin. `drift.together` takes the ROC AUC of boosted trees that tell the rows of both sides apart, on"
    " rows that they were not trained on (Lopez-Paz and Oquab 2017): it finds what has changed between features, and"
    " 0.5 is nothing. Both are effect sizes, which do not grow with the rows, and fail only where the lower bound of"
    " the 95 % interval (of all features at once) is above the limit. 0.25 is a mean that has moved by 0.6 standard"
    " deviations, or 12 % of the values that are missing now; as a population stability index it is about 0.36, of"
    " which 0.25 is usually called a significant shift (Siddiqi, Credit Risk Scorecards, 2006). An AUC of 0.75 is all"
    " features together moved by 0.95 standard deviations. The target is shown, not judged: its shares may be changed"
    " on purpose. So are dates and times, unless the policy judges them.",
    limits=DriftLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    advice="look at the features that the report names first: mend where it comes from a column that is filled"
    " otherwise, or say with an override that the world has changed",
)
