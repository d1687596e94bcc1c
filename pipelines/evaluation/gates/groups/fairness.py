"""Gate: no group by a protected attribute is proven to be answered much worse than another.

Which rates have to be equal is a choice that people make, and no model can have all of them equal where groups differ
in what is true of them (Kleinberg, Mullainathan & Raghavan 2016; Chouldechova 2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.description import Task, label_text
from pipelines.domain.verdict import Cell, GateResult, Table, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.groups.bins import Binned, binned
from pipelines.evaluation.gates.groups.gaps import Gap, Rate, group_rates, interval_of, pairs_of
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, sampled, too_few
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domain.description import Description
    from pipelines.packaging.onnx_model import Scores

# Of more rows than this so many are drawn.
MOST_ROWS = 200_000
LEVEL = 0.05
ERROR, ODDS, PARITY, MAE, RESIDUAL = "error", "equalized_odds", "demographic_parity", "mae", "residual"
_LEAST = 1e-12
_MOST_SHOWN = 60


class FairnessLimits(Limits):
    """How far the groups of a protected attribute may be apart."""

    error: float = Field(0.15, gt=0, le=1, description="difference of two groups' error rates; 1 shows it only")
    equalized_odds: float = Field(
        0.25, gt=0, le=1, description="difference of their true or false positive rates; 1 shows it only"
    )
    demographic_parity: float = Field(
        1, gt=0, le=1, description="difference of the shares that are predicted positive; 1 shows it only"
    )
    mae: float = Field(
        0.5, gt=0, description="of a regression: difference of their mean absolute errors, by that of all rows"
    )
    residual: float = Field(
        0.75, gt=0, description="of a regression: difference of their mean residuals, by the mean absolute error"
    )
    minimum_group_rows: int = Field(FEWEST_ROWS, ge=2, description="a group of which fewer rows count is not judged")
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Found:
    """The gaps of each measure, the one that is proven the widest first; `few` counts rates of too small a group.

    `why` says why nothing was measured, with its verdict.
    """

    gaps: Mapping[str, Sequence[Gap]] = field(default_factory=dict)
    few: Mapping[str, int] = field(default_factory=dict)
    on: str = ""
    why: str = ""
    verdict: Verdict = Verdict.INCONCLUSIVE


def measure(world: Offline, limits: FairnessLimits) -> Found:
    """Compare the rates of the groups by each protected attribute."""
    import numpy as np

    judged, scores = world.candidate.judged
    if not np.isfinite(scores.numbers).all():
        return Found(why="an answer is not a finite number", verdict=Verdict.ERROR)
    rows = np.flatnonzero(judged)
    if len(rows) < limits.minimum_rows:
        return Found(why=too_few(len(rows), limits.minimum_rows))
    chosen = sampled(rows, MOST_ROWS)
    kept = scores if len(chosen) == len(rows) else scores.take(np.searchsorted(rows, chosen))
    described = world.snapshot.description
    attributes = [each for each in described.features if each.name in described.protected]
    groups = binned(world.snapshot.frame.iloc[chosen], attributes)
    on = f", on {len(chosen):,} rows drawn of {len(rows):,}" if len(chosen) < len(rows) else ""
    found = gaps_of(groups, rates_of(kept, world.candidate.description, world.actual[chosen]), limits)
    return Found(*found, on=on)


def rates_of(scores: "Scores", description: "Description", truth: "NDArray[np.object_]") -> dict[str, list[Rate]]:
    """Return the rates of each measure by answers to rows of this truth (n,), of several classes those of each."""
    import numpy as np

    everybody = np.ones(len(truth), dtype=bool)
    if description.task is Task.REGRESSION:
        residual = scores.values - truth
        scale = max(float(np.abs(residual).mean()), _LEAST)
        return {
            MAE: [Rate("mean absolute error", np.abs(residual) / scale, everybody, shares=False)],
            RESIDUAL: [Rate("mean residual", residual / scale, everybody, shares=False)],
        }
    assert scores.labels is not None
    labels, output = scores.labels.astype(str), description.output
    rates: dict[str, list[Rate]] = {
        ERROR: [Rate("error rate", (labels != truth).astype(float), everybody)],
        ODDS: [],
        PARITY: [],
    }
    for label in output.classes if output.positive is None else [output.positive]:
        text = label_text(label)
        said, true = (labels == text).astype(float), truth == text
        of = "" if output.positive is not None else f" of {text}"
        rates[ODDS] += [Rate(f"true positive rate{of}", said, true), Rate(f"false positive rate{of}", said, ~true)]
        rates[PARITY].append(Rate(f"share predicted{of or ' positive'}", said, everybody))
    return rates


def gaps_of(
    attributes: Sequence[Binned], rates: Mapping[str, Sequence[Rate]], limits: FairnessLimits
) -> tuple[dict[str, list[Gap]], dict[str, int]]:
    """Return the widest gap of each rate of each attribute, by measure, and how many rates have too few rows."""
    gaps, few = {}, {}
    for measure_name, each_of in rates.items():
        compared = []
        few[measure_name] = 0
        for attribute in attributes:
            for rate in each_of:
                groups, small = group_rates(attribute, rate, limits.minimum_group_rows)
                few[measure_name] += small
                compared.append((attribute, rate, groups, pairs_of(groups)))
        level = LEVEL / max(1, sum(len(pairs) for *_, pairs in compared))
        found = []
        for attribute, rate, groups, pairs in compared:
            bounds = [(interval_of(*pair, level, shares=rate.shares), pair) for pair in pairs]
            if bounds:
                interval, (low, high) = max(bounds, key=lambda each: each[0][0])
                found.append(Gap(attribute.feature, rate.name, low, high, interval, tuple(groups)))
        gaps[measure_name] = sorted(found, key=lambda each: -each.interval[0])
    return gaps, few


def judge(found: Found, limits: FairnessLimits) -> list[GateResult]:
    """Fail a measure whose widest gap is proven beyond its limit."""
    if found.why:
        return [GateResult("fairness", found.verdict, f"{found.verdict.upper()}: fairness: {found.why}")]
    return [_judged(name, gaps, found, getattr(limits, name)) for name, gaps in found.gaps.items()]


def _judged(name: str, gaps: Sequence[Gap], found: Found, limit: float) -> GateResult:
    result = f"fairness.{name}"
    few = f"; {found.few[name]} more of too few rows" if found.few[name] else ""
    if not gaps:
        why = f"{result}: no protected attribute has two groups of enough rows{few}"
        return GateResult(result, Verdict.NOT_APPLICABLE, why)
    worst = gaps[0]
    shown_only = limit >= 1 and name in (ERROR, ODDS, PARITY)
    low, high = worst.low, worst.high
    said = (
        f"{worst.rate} {high.mean:.4f} where {worst.attribute} = {high.group} ({high.rows:,} rows) and {low.mean:.4f}"
        f" where it is {low.group} ({low.rows:,}), bounds of the difference {worst.interval[0]:+.4f} and"
        f" {worst.interval[1]:+.4f}{found.on}{few}"
    )
    good = worst.interval[0] <= limit
    if shown_only:
        message = f"PASS {result}={worst.difference:.4f}, shown only ({said})"
    elif good:
        message = f"PASS {result}={worst.difference:.4f}, not proven above {limit:g} ({said})"
    else:
        message = f"FAIL: {result}={worst.difference:.4f} > {limit:g} ({said})"
    verdict = Verdict.PASSED if good else Verdict.FAILED
    bound = None if shown_only else limit
    return GateResult(result, verdict, message, worst.difference, worst.interval, bound, table=_table(gaps))


def _table(gaps: Sequence[Gap]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (gap.attribute, each.group, gap.rate, each.rows, each.mean, gap.difference, *gap.interval)
        for gap in gaps
        for each in gap.groups
    ]
    columns = ("attribute", "group", "rate", "rows", "value", "widest difference", "at least", "at most")
    return Table(columns, tuple(rows[:_MOST_SHOWN]))


FAIRNESS = Gate(
    name="fairness",
    description="No group by a protected attribute of the evaluation set is proven to be answered much worse than"
    " another. Error: the difference of two groups' error rates. Equalized odds: the larger difference of their"
    " true and false positive rates (Hardt, Price & Srebro 2016), of several classes each against the others."
    " Demographic parity: the difference of the shares that are predicted positive (Dwork et al. 2012); it is"
    " shown only, since also answers without any error differ by as much as the truth does. Of a regression: the"
    " differences of mean absolute error and of mean residual, as shares of the mean absolute error of all rows."
    " The two groups that are proven furthest apart count; a rate of a group with fewer rows than the minimum is"
    " left out and counted. The rates are defined as fairlearn defines them; bounds are Newcombe's for shares"
    " (1998, method 10) and Welch's for means, at 5 % by the number of pairs of a measure (Bonferroni), and fail"
    " a measure only where the lower one is above the limit. Rates of all groups can't be equal at once where"
    " the truth differs (Kleinberg, Mullainathan & Raghavan 2016), so the defaults leave room for that and stop"
    " what exceeds it. Of more than 200,000 rows so many are drawn.",
    limits=FairnessLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET, Need.PROTECTED}),
    unless="the evaluation set names no protected attribute",
    overridable=True,
    on_sets=OnSets.LIMITED,
    parts=frozenset({ERROR, ODDS, PARITY, MAE, RESIDUAL}),
)
