"""Gate: small changes of requests, as they come about in life, hardly change what the model answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.bundle import Feature
from pipelines.domain.verdict import Cell, GateResult, Table, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, SEED, sampled, too_few, wilson
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.robustness.perturbations import (
    MISSING,
    NOISE,
    SEARCH,
    SWAPS,
    UNITS,
    Perturbed,
    Values,
    perturbed,
)
from pipelines.evaluation.gates.robustness.search import Ask, searched

if TYPE_CHECKING:
    from pipelines.packaging.onnx_model import Scores

# Of more rows than this so many are drawn: a share of them is known to 2 points.
MOST_ROWS = 2_000
LEVEL = 0.05
_KINDS = (NOISE, MISSING, SWAPS, UNITS, SEARCH)


class RobustnessLimits(Limits):
    """How large small changes are, and which share of the answers may change by them."""

    noise_share: float = Field(0.05, gt=0, le=1, description="noise on each number, as a share of its spread")
    noise: float = Field(0.07, gt=0, le=1, description="share of answers that may change by noise; 1 shows it only")
    missing: float = Field(1, gt=0, le=1, description="by a value that is missing where it may be; 1 shows it only")
    swaps: float = Field(1, gt=0, le=1, description="by a category swapped for another; 1 shows it only")
    units: float = Field(1, gt=0, le=1, description="by a number in another unit; 1 shows it only")
    search_share: float = Field(0.05, gt=0, le=1, description="a step of the search, as a share of a number's spread")
    search_steps: int = Field(3, ge=1, le=10, description="steps that it takes at most, each of another number")
    search: float = Field(0.2, gt=0, le=1, description="by the worst steps that a search finds; 1 shows it only")
    regression_change: float = Field(
        0.25, gt=0, description="an answer of a regression has changed by more than this share of the target's spread"
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Changes:
    """How many of so many changed requests are answered otherwise, and how many with what is no finite number.

    `words` say what the change is.
    """

    words: str
    rows: int
    answers: int
    not_finite: int = 0

    @property
    def share(self) -> float:
        """The share of the answers that changed, 0 of no rows."""
        return self.answers / max(1, self.rows)


@dataclass(frozen=True)
class Found:
    """The changes of each kind; `why` says why nothing was measured, with its verdict."""

    kinds: Mapping[str, Sequence[Changes]] = field(default_factory=dict)
    on: str = ""
    why: str = ""
    verdict: Verdict = Verdict.INCONCLUSIVE


def measure(world: Offline, limits: RobustnessLimits) -> Found:
    """Ask the model rows that judge it, changed in each way."""
    import numpy as np

    from pipelines.evaluation.gates.offline.asking import completed, in_slices
    from pipelines.packaging.served import model_values

    rows, scores = world.candidate.judged
    places = np.flatnonzero(rows)
    if len(places) < limits.minimum_rows:
        return Found(why=too_few(len(places), limits.minimum_rows))
    if not np.isfinite(scores.numbers).all():
        return Found(why="an answer is not a finite number", verdict=Verdict.ERROR)
    features = tuple(map(Feature.read, world.candidate.description.features))
    chosen = sampled(places, MOST_ROWS)
    frame = completed(world.snapshot.frame, features).iloc[chosen]
    values = {each.name: model_values(frame[each.name], each) for each in features}
    model = world.candidate.model
    spread = float(np.std(world.actual[places])) if scores.labels is None else 0.0

    def ask(changed: Values) -> "Scores":
        return in_slices(model, model.fed(changed))

    try:
        kinds = changes_of(values, features, ask, limits, enough=limits.regression_change * spread)
    except NotServable as refusal:
        why = f"on requests that the service takes: {refusal.message}"
        return Found(why=why, verdict=Verdict.ERROR)
    on = f", on {len(chosen):,} rows drawn of {len(places):,}" if len(chosen) < len(places) else ""
    return Found(kinds, on)


def changes_of(
    values: Values, features: Sequence[Feature], ask: Ask, limits: RobustnessLimits, *, enough: float
) -> dict[str, list[Changes]]:
    """Return what changes of each kind do to the answers; of a regression one by more than `enough` is another."""
    import numpy as np

    random = np.random.default_rng(SEED)
    found: dict[str, list[Changes]] = {kind: [] for kind in _KINDS}
    origin = ask(values)
    for each in perturbed(values, features, limits.noise_share, random):
        found[each.kind].append(_counted(each, ask, origin, enough))
    worst = searched(values, features, limits.search_share, limits.search_steps, ask)
    found[SEARCH].append(_counted(worst, ask, origin, enough))
    return found


def _counted(each: Perturbed, ask: Ask, origin: "Scores", enough: float) -> Changes:
    import numpy as np

    rows = np.flatnonzero(each.changed)
    if not len(rows):
        return Changes(each.words, 0, 0)
    answers, before = ask({name: column[rows] for name, column in each.values.items()}), origin.take(rows)
    finite = np.isfinite(answers.numbers).all(axis=1)
    if answers.labels is None:
        other = ~(np.abs(answers.values - before.values) <= enough)
    else:
        other = answers.labels != before.labels
    return Changes(each.words, len(rows), int(other.sum()), int((~finite).sum()))


def judge(found: Found, limits: RobustnessLimits) -> list[GateResult]:
    """Fail a kind of change by which more answers are proven to change than its limit, or that has no answer."""
    if found.why:
        return [GateResult("robustness", found.verdict, f"{found.verdict.upper()}: robustness: {found.why}")]
    level = LEVEL / sum(len(changes) for changes in found.kinds.values())
    return [_judged(kind, changes, level, limits, found.on) for kind, changes in found.kinds.items()]


def _judged(kind: str, changes: Sequence[Changes], level: float, limits: RobustnessLimits, on: str) -> GateResult:
    name, limit = f"robustness.{kind}", float(getattr(limits, kind))
    z = NormalDist().inv_cdf(1 - level)
    unanswered = next((each for each in changes if each.not_finite), None)
    if unanswered:
        said = f"{unanswered.not_finite:,} of {unanswered.rows:,} answers are no finite numbers by {unanswered.words}"
        return GateResult(name, Verdict.FAILED, f"FAIL: {name}: {said}{on}", table=_table(changes, z))
    judged = [each for each in changes if each.rows >= limits.minimum_rows]
    if not judged:
        rows = max(each.rows for each in changes)
        why = f"{name}: {changes[0].words}: possible in {rows:,} rows, fewer than {limits.minimum_rows:,}"
        return GateResult(name, Verdict.NOT_APPLICABLE, why)
    worst = max(judged, key=lambda each: _bounds(each, z)[0])
    interval = _bounds(worst, z)
    said = (
        f"{worst.answers:,} of {worst.rows:,} answers change by {worst.words}, bounds of the share"
        f" {interval[0]:.4f} and {interval[1]:.4f}{on}"
    )
    good, shown = interval[0] <= limit, f"{name}={worst.share:.4f}"
    if limit >= 1:
        message = f"PASS {shown}, shown only ({said})"
    else:
        message = (
            f"PASS {shown}, not proven above {limit:g} ({said})" if good else f"FAIL: {shown} > {limit:g} ({said})"
        )
    verdict = Verdict.PASSED if good else Verdict.FAILED
    bound = limit if limit < 1 else None
    return GateResult(name, verdict, message, worst.share, interval, bound, table=_table(changes, z))


def _bounds(each: Changes, z: float) -> tuple[float, float]:
    return wilson(each.answers, each.rows, z)


def _table(changes: Sequence[Changes], z: float) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (each.words, each.rows, each.answers, each.share, *(_bounds(each, z) if each.rows else (None, None)))
        for each in changes
    ]
    return Table(("change", "rows", "answers changed", "share", "at least", "at most"), tuple(rows))


ROBUSTNESS = Gate(
    name="robustness",
    description="Small changes of requests, within what the service takes, hardly change the answers. Noise: every"
    " number, date and time moves by a normal step of a share of its spread (the distance of its quartiles in"
    " standard deviations), within its bounds and what was seen. Search: each row takes up to so many steps of"
    " that size, one after another, each of the feature that leads its answer furthest away (greedy, as Papernot"
    " et al. 2016). Missing: one value that may be missing is. Swaps: one category becomes another, or a boolean"
    " the other. Units: one number is multiplied by 10, 100 or 1000 within its declared bounds. Measured is the"
    " share of answers that change: the label, or of a regression the value by more than a share of the target's"
    " standard deviation. A kind fails where the lower bound of its share is above the limit (Wilson 1927, at 5"
    " % by the number of kinds), and wherever an answer is no finite number. By default noise and search are"
    " judged; the others are shown, since a good model answers another category or unit otherwise. Up to 2,000"
    " rows are asked, 200 of them by the search.",
    limits=RobustnessLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
)
