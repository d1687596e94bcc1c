"""Gate: asked what production was asked, the version decides much as the champion did, and answers.

Harm has to be proven: a share counts as above its limit where the lower bound of its interval is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import AnyAnswer, Task
from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, wilson
from pipelines.evaluation.gates.service.world import Service, Shadowed
from pipelines.live.told import answered, read_answer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_JSON = {"content-type": "application/json"}
# Rows of a request, as many as a service answers at once without notice.
_BATCH_ROWS = 100
# Numbers are cut into so many slices of the same size; a feature has no more categories that are looked at.
_QUANTILES = 4
_MOST_SLICES = 20
_LISTED = 40
_CONFIDENCE = 0.95
_ANSWERED = ("prediction", "probability", "probabilities")


class ShadowLimits(Limits):
    """How far a version may differ from the champion on the requests of production."""

    rows: int = Field(1000, ge=1, le=10_000, description="so many of the newest sampled requests are asked")
    minimum_rows: int = Field(100, ge=1, description="with fewer sampled requests the gate does not apply")
    maximum_flips: float = Field(0.15, gt=0, le=1, description="share of requests that may be decided otherwise")
    maximum_slice_flips: float = Field(0.3, gt=0, le=1, description="share of those of one slice")
    maximum_shift: float = Field(0.15, gt=0, le=1, description="mean change of the answered probabilities")
    regression_flip: float = Field(
        1.0, gt=0, description="a number is decided otherwise by so many standard deviations of the champion's answers"
    )
    regression_shift: float = Field(0.6, gt=0, description="mean change of the numbers, in the same unit")
    maximum_errors: float = Field(0.01, ge=0, lt=1, description="share of requests that it may not answer")


@dataclass(frozen=True)
class Slice:
    """The rows of one value, or of one range of values, of a feature, and how many are decided otherwise."""

    feature: str
    value: str
    rows: int
    flips: int


@dataclass(frozen=True)
class Replay:
    """What a replay found on `rows` requests of the champion's `version`.

    `errors` were not answered, the first of them as `example` says; of the others `flips` were decided otherwise.
    `shift` is the mean change of what was answered, with its interval; `relative` says that it is one of numbers.
    """

    rows: int
    errors: int
    flips: int
    shift: float
    interval: tuple[float, float]
    slices: Sequence[Slice]
    relative: bool = False
    version: str = ""
    example: str = ""

    @property
    def answered(self) -> int:
        """How many requests could be compared."""
        return self.rows - self.errors


def measure(world: Service, limits: ShadowLimits) -> Replay | str:
    """Ask the version what production was asked, and compare; return why where there is nothing to ask."""
    shadowed = world.shadowed(limits.rows)
    if shadowed is None:
        return "no champion serves in production"
    recorded = shadowed.recorded
    if not shadowed.alike:
        return f"v{recorded.version} answers another task, or other classes"
    if len(recorded.rows) < limits.minimum_rows:
        return _too_few(len(recorded.rows), "of the champion's requests are sampled", limits)
    if recorded.hidden:
        return f"the policy keeps {', '.join(recorded.hidden)} out of the sampled requests"
    positions, requests = _requests(world, shadowed)
    if len(requests) < limits.minimum_rows:
        return _too_few(len(requests), "sampled requests are ones that it takes, as it declares to break", limits)
    answers, example = _ask(world, requests)
    found = compare(
        limits,
        task=world.task,
        rows=[recorded.rows[position] for position in positions],
        before=[(recorded.predictions[position], recorded.scores[position]) for position in positions],
        after=[None if answer is None else answered(answer) for answer in answers],
        features=shadowed.features,
    )
    return replace(found, version=recorded.version, example=example)


def compare(
    limits: ShadowLimits,
    *,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    before: Sequence[tuple[str | float, Sequence[float]]],
    after: Sequence[tuple[str | float, Sequence[float]] | None],
    features: Sequence[Feature],
) -> Replay:
    """Return how answers of rows changed, None for one that is missing.

    A probability changes by its difference, those of several classes by half the sum of the absolute ones (the total
    variation), and a number in standard deviations of what was answered before.
    """
    import numpy as np

    found = [position for position, answer in enumerate(after) if answer is not None]
    earlier = [before[position] for position in found]
    later = [answer for answer in after if answer is not None]
    if not found:
        changes, flips = np.zeros(0), np.zeros(0, dtype=bool)
    elif task is Task.REGRESSION:
        old, new = (np.array([answer for answer, _ in side], dtype=float) for side in (earlier, later))
        spread = float(np.std(np.array([answer for answer, _ in before], dtype=float))) or 1.0
        changes = np.abs(new - old) / spread
        flips = changes > limits.regression_flip
    else:
        old, new = (np.array([scores for _, scores in side], dtype=float) for side in (earlier, later))
        changes = np.abs(new - old).sum(axis=1) / (1 if task is Task.BINARY else 2)
        flips = np.array([was != now for (was, _), (now, _) in zip(earlier, later, strict=True)])
    return Replay(
        rows=len(rows),
        errors=len(rows) - len(found),
        flips=int(flips.sum()),
        shift=float(changes.mean()) if found else 0.0,
        interval=_mean_interval(changes) if found else (0.0, 0.0),
        slices=_slices([rows[position] for position in found], flips, features),
        relative=task is Task.REGRESSION,
    )


def judge(found: Replay | str, limits: ShadowLimits) -> list[GateResult]:
    """Fail where too many requests are not answered, or decided otherwise, beyond doubt."""
    if isinstance(found, str):
        return [GateResult("shadow", Verdict.NOT_APPLICABLE, f"not measured: {found}")]
    of = f"of {found.rows:,} sampled requests of v{found.version}"
    first = f"; the first: {found.example}" if found.errors else ""
    errors = _Measured("errors", found.errors / found.rows, wilson(found.errors, found.rows), limits.maximum_errors)
    if not found.answered:
        return [errors.judged(of + first)]
    share = found.flips / found.answered
    flips = _Measured("flips", share, wilson(found.flips, found.answered), limits.maximum_flips)
    allowed = limits.regression_shift if found.relative else limits.maximum_shift
    shift = _Measured("shift", found.shift, found.interval, allowed)
    unit = " in standard deviations of its answers" if found.relative else ""
    return [
        errors.judged(of + first),
        flips.judged(of),
        _judge_slices(found, limits),
        shift.judged(f"of what v{found.version} answered{unit}"),
    ]


@dataclass(frozen=True)
class _Measured:
    """A number that is worse when higher, with its interval and its limit."""

    name: str
    observed: float
    interval: tuple[float, float]
    limit: float

    def judged(self, of: str, table: Table | None = None) -> GateResult:
        """Fail where the number is above its limit beyond doubt."""
        low, high = self.interval
        if low > self.limit:
            verdict, said = Verdict.FAILED, f"FAIL: {self.name}={self.observed:.4f} > {self.limit:g}"
        elif self.observed > self.limit:
            verdict, said = Verdict.PASSED, f"PASS {self.name}={self.observed:.4f} is not proven to be > {self.limit:g}"
        else:
            verdict, said = Verdict.PASSED, f"PASS {self.name}={self.observed:.4f} <= {self.limit:g}"
        message = f"{said} (95 % interval {low:.4f} to {high:.4f}) {of}"
        name = f"shadow.{self.name}"
        return GateResult(name, verdict, message, self.observed, self.interval, self.limit, table=table)


def _judge_slices(found: Replay, limits: ShadowLimits) -> GateResult:
    if not found.slices:
        message = f"not measured: no slice of the sampled requests has {FEWEST_ROWS} rows"
        return GateResult("shadow.slices", Verdict.NOT_APPLICABLE, message)
    # One of many intervals is beyond its limit by chance: each is as much wider as there are more (Bonferroni).
    z = NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / (2 * len(found.slices)))
    bounds = [(each, wilson(each.flips, each.rows, z)) for each in found.slices]
    bounds.sort(key=lambda pair: (-pair[1][0], pair[0].feature, pair[0].value))
    worst, interval = bounds[0]
    table = Table(
        ("feature", "slice", "rows", "flips", "share", "low", "high"),
        tuple(
            (each.feature, each.value, each.rows, each.flips, each.flips / each.rows, low, high)
            for each, (low, high) in bounds[:_LISTED]
        ),
    )
    measured = _Measured("slices", worst.flips / worst.rows, interval, limits.maximum_slice_flips)
    where = f"of {worst.rows:,} requests with {worst.feature}={worst.value}, the worst of {len(bounds):,} slices"
    return measured.judged(f"{where}, corrected for their number", table)


def _requests(world: Service, shadowed: Shadowed) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the requests to ask, and which of those recorded they are.

    Who declares to break for clients of the champion is asked what it takes of them, cut to the fields that it knows.
    """
    rows = shadowed.recorded.rows
    if not shadowed.breaking:
        return list(range(len(rows))), [dict(row) for row in rows]
    positions, requests = [], []
    for position, row in enumerate(rows):
        cut = {each.name: row[each.name] for each in world.features if each.name in row}
        if all(each.takes(cut.get(each.name)) for each in world.features):
            positions.append(position)
            requests.append(cut)
    return positions, requests


def _ask(world: Service, requests: Sequence[dict[str, Any]]) -> tuple[list[AnyAnswer | None], str]:
    """Return the answer to each request, None for one that is missing, and what was said to the first of these.

    A batch that is not answered is asked again row by row: one row must not stand for the others.
    """
    answers: list[AnyAnswer | None] = []
    example = ""
    for start in range(0, len(requests), _BATCH_ROWS):
        world.check()
        piece = requests[start : start + _BATCH_ROWS]
        found = _asked(world, "/predict/batch", {"rows": piece})
        listed = found.get("predictions")
        if isinstance(listed, list) and len(listed) == len(piece):
            answers += [_read(world, body) for body in listed]
            continue
        for row in piece:
            world.check()
            said = _asked(world, "/predict", row)
            answers.append(_read(world, {name: said[name] for name in _ANSWERED if name in said}))
            example = example or ("" if answers[-1] else str(said)[:200])
    return answers, example


def _read(world: Service, body: Any) -> AnyAnswer | None:
    return read_answer(body, world.task, world.output) if world.output else None


def _asked(world: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what the service says, as an object; what it says to a refused request has no prediction."""
    try:
        reply = world.probe.post(world.url + path, json.dumps(body).encode(), _JSON)
    except DeployFailed as failure:
        return {"error": failure.message}
    if isinstance(reply.body, dict) and (reply.status == HTTPStatus.OK or "error" in reply.body):
        return reply.body
    return {"error": f"status {reply.status}"}


def _slices(rows: Sequence[Mapping[str, Any]], flips: "np.ndarray", features: Sequence[Feature]) -> list[Slice]:
    """Return the slices of enough rows: categories and truths, and quarters of numbers and times."""
    found = []
    for feature in features:
        labels = _labels(rows, feature)
        if labels is None:
            continue
        for value, of_value in labels.groupby(labels, sort=True).groups.items():
            positions = of_value.to_numpy()
            if len(positions) >= FEWEST_ROWS:
                found.append(Slice(feature.name, str(value), len(positions), int(flips[positions].sum())))
    return found


def _labels(rows: Sequence[Mapping[str, Any]], feature: Feature) -> "pd.Series[Any] | None":
    """Return the slice of each row by a feature, (n,); None where it has too many values to be cut."""
    import pandas as pd

    from pipelines.packaging.served import model_values

    column = pd.Series([row.get(feature.name) for row in rows], dtype=object)
    missing = column.isna()
    if not feature.type.is_text and feature.type is not FeatureType.BOOLEAN:
        numbers = pd.Series(model_values(column, feature))
        if numbers.nunique() > _QUANTILES:
            cut = pd.qcut(numbers.rank(method="average"), _QUANTILES, labels=False, duplicates="drop")
            ends = numbers.groupby(cut).agg(["min", "max"])
            column = cut.map(lambda part: f"{ends['min'][part]:g} to {ends['max'][part]:g}", na_action="ignore")
    if column.nunique() > _MOST_SLICES:
        return None
    return column.astype(object).where(~missing, "missing").map(str)


def _mean_interval(values: "np.ndarray") -> tuple[float, float]:
    """Return the 95 % interval of a mean by the central limit theorem."""
    import numpy as np

    mean = float(values.mean())
    half = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * float(np.std(values)) / len(values) ** 0.5
    return max(0.0, mean - half), mean + half


def _too_few(rows: int, what: str, limits: ShadowLimits) -> str:
    return f"{rows:,} {what}, fewer than {limits.minimum_rows:,}"


SHADOW = Gate(
    name="shadow",
    description="The version, in staging's trial slot, is asked the newest requests that were sampled in production,"
    " and compared with what the champion answered to them: the share that it does not answer (`errors`), the share"
    " that it decides otherwise (`flips`: another class, or a number more than one standard deviation of the champion's"
    " answers away), the same in the worst slice (`slices`: a category, or a quarter of a number's values, of 30 rows"
    " or more), and the mean change of the answer (`shift`: of a probability, or half the sum of the changes of those"
    " of each class, the total variation; of a number, in standard deviations). Shares have Wilson intervals (Wilson"
    " 1927), in slices corrected for their number (Bonferroni); it fails where the lower bound is above the limit. By"
    " default 15 % may be decided otherwise: a retrain of the same kind on another sample of the Telco customers"
    " decides up to 5 % otherwise, another kind of model up to 7 %. It does not apply before 100 requests of the"
    " champion are sampled, nor where the policy keeps a feature out of the sample or the champion answers another task"
    " or other classes.",
    limits=ShadowLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.SERVICE}),
    overridable=True,
    step="shadow of production",
    advice="look at what it decides otherwise, and whether that is meant",
)
