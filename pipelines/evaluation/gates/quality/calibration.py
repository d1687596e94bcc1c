"""Gate: what the model answers is right on average: its probabilities, or the mean of a regression's values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need, OnSets
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, SEED, Z_95, refused_beside, too_few
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.answers import ClassAnswers, Unmeasured, class_answers, number_answers
from pipelines.evaluation.gates.quality.intervals import Estimate, estimated
from pipelines.evaluation.gates.quality.measures import MEAN

if TYPE_CHECKING:
    import numpy as np

_BINS, _FEWEST_A_BIN = 10, 10


class CalibrationLimits(Limits):
    """Limits on how far answers may be off on average, where that is proven."""

    maximum_ece: float = Field(
        0.1,
        gt=0,
        le=1,
        description="how far probabilities may be off on average, of several classes above what is true",
    )
    maximum_bias: float = Field(
        0.2,
        gt=0,
        description="how far the mean of a regression's values may be off, in standard deviations of its target",
    )
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Found:
    """How far answers are off on average, with its 95 % interval. `told` is what else is known of it."""

    estimate: Estimate
    told: str
    table: Table


@dataclass(frozen=True)
class Measured:
    """What was found by name, `ece` and `brier` of classes and `bias` of a regression, on so many rows; "" of all."""

    found: Mapping[str, Found | Unmeasured]
    rows: int
    refused: int = 0


def measure(world: Offline, limits: CalibrationLimits) -> Measured:
    """Compare what was answered with what is true, bin by bin, on rows that the version was not trained on."""
    return Measured(_found(world), int(world.candidate.judged[0].sum()), world.candidate.refused)


def _found(world: Offline) -> Mapping[str, Found | Unmeasured]:
    if world.task is Task.REGRESSION:
        numbers = number_answers(world)
        return {"": numbers} if isinstance(numbers, Unmeasured) else {"bias": bias(*numbers)}
    answers = class_answers(world)
    if isinstance(answers, Unmeasured):
        return {"": answers}
    if answers.positive is not None:
        answered, happened = answers.probabilities[:, answers.positive], answers.truth == answers.positive
        return {"ece": calibration_error(answered, happened), "brier": brier(answers)}
    surest = answers.probabilities.argmax(axis=1)
    return {
        "ece": calibration_error(answers.probabilities.max(axis=1), surest == answers.truth, above_only=True),
        "brier": brier(answers),
    }


def calibration_error(answered: "np.ndarray", happened: "np.ndarray", *, above_only: bool = False) -> Found:
    """Return how far probabilities (n,) are off what happened (n,) on average over bins of as many rows each.

    The plain error (Naeini, Cooper & Hauskrecht 2015) of a perfect model is above 0, the more so the fewer rows there
    are, since the noise of each bin counts as an error. So the rows are split in two by chance, and the side on which a
    bin of the one half errs is taken from the other half (Cox 1975): noise then cancels out, and no model's error is
    overstated. With `above_only`, probabilities below what happened are no error.
    """
    import numpy as np

    off = happened - answered
    bins = equal_bins(answered)
    half = np.random.default_rng(SEED).permutation(len(off)) % 2
    count = int(bins.max()) + 1
    signed = np.zeros(len(off))
    for side in (0, 1):
        other = np.bincount(bins[half != side], off[half != side], minlength=count)
        sign = np.minimum(np.sign(other), 0) if above_only else np.sign(other)
        signed = np.where(half == side, sign[bins] * off, signed)
    spread = Z_95 * float(signed.std()) / len(off) ** 0.5
    value = float(signed.mean())
    rows, mean_answered, mean_happened = _by_bin(bins, answered, happened.astype(np.float64))
    gaps = mean_answered - mean_happened
    plain = float(rows @ (np.maximum(gaps, 0) if above_only else np.abs(gaps)) / len(off))
    told = f"{plain:.4f} with the noise of {count} bins of about {len(off) // count:,} rows"
    return Found(Estimate(value, (value - spread, value + spread)), told, _table(bins, answered, happened))


def brier(answers: ClassAnswers) -> Found:
    """Return the Brier score (Brier 1950), of two classes half of it, with its parts by Murphy (1973).

    Reliability is how far the bins are off, resolution how far they are apart, uncertainty that of the truth itself:
    the score is about reliability - resolution + uncertainty.
    """
    import numpy as np

    number = answers.probabilities.shape[1]
    scores, parts = np.zeros(len(answers.truth)), np.zeros(3)
    for each in [answers.positive] if answers.positive is not None else range(number):
        answered, happened = answers.probabilities[:, each], (answers.truth == each).astype(np.float64)
        scores += (answered - happened) ** 2
        rows, mean_answered, mean_happened = _by_bin(equal_bins(answered), answered, happened)
        share, overall = rows / len(scores), happened.mean()
        parts += (
            share @ (mean_answered - mean_happened) ** 2,
            share @ (mean_happened - overall) ** 2,
            overall * (1 - overall),
        )
    told = f"reliability {parts[0]:.4f} - resolution {parts[1]:.4f} + uncertainty {parts[2]:.4f}"
    found = estimated(MEAN, scores, answers.truth)
    assert found is not None
    table = Table(
        ("part", "value"), tuple(zip(("reliability", "resolution", "uncertainty"), parts.tolist(), strict=True))
    )
    return Found(found, told, table)


def bias(truth: "np.ndarray", values: "np.ndarray") -> Found | Unmeasured:
    """Return the mean of values (n,) less that of the truth (n,), in standard deviations of the truth."""
    import numpy as np

    spread = float(truth.std())
    if np.ptp(truth) == 0 or spread == 0:
        return Unmeasured(Verdict.INCONCLUSIVE, "the evaluation set has one value only")
    off = (values - truth) / spread
    found = Estimate(value := float(off.mean()), _around(value, float(off.std()), len(off)))
    return Found(found, f"{value * spread:+.6g} in its unit", _table(equal_bins(values), values, np.asarray(truth)))


def _around(value: float, deviation: float, rows: int) -> tuple[float, float]:
    half = Z_95 * deviation / rows**0.5
    return value - half, value + half


def equal_bins(answered: "np.ndarray") -> "np.ndarray":
    """Return the number of each row's bin (n,): ten of as many rows each, fewer of few rows, equal answers in one.

    Bins of as many rows each have no empty ones, and as much noise everywhere (Nguyen & O'Connor 2015).
    """
    import numpy as np

    count = min(_BINS, max(1, len(answered) // _FEWEST_A_BIN))
    edges = np.quantile(answered, np.arange(1, count) / count, method="inverted_cdf") if count > 1 else np.array([])
    bins = np.searchsorted(np.unique(edges), answered, side="left")
    return np.unique(bins, return_inverse=True)[1]


def _by_bin(bins: "np.ndarray", answered: "np.ndarray", true: "np.ndarray") -> "tuple[np.ndarray, ...]":
    """Return of each bin the number of its rows, and the means of what was answered and of what is true."""
    import numpy as np

    rows = np.bincount(bins)
    return rows, np.bincount(bins, answered) / rows, np.bincount(bins, true) / rows


def _table(bins: "np.ndarray", answered: "np.ndarray", true: "np.ndarray") -> Table:
    import numpy as np

    means = _by_bin(bins, answered, true.astype(np.float64))
    rows = [(int(rows), *(float(f"{each:.6g}") for each in pair)) for rows, *pair in zip(*means, strict=True)]
    return Table(("rows", "mean answer", "mean truth"), tuple(rows))


def judge(measured: Measured, limits: CalibrationLimits) -> list[GateResult]:
    """Fail where the interval's end that favours the version is beyond the limit."""
    return [_judged(name, each, measured, limits) for name, each in measured.found.items()]


def _judged(kind: str, found: Found | Unmeasured, measured: Measured, limits: CalibrationLimits) -> GateResult:
    name, beside = f"calibration.{kind}" if kind else "calibration", refused_beside(measured.refused)
    if isinstance(found, Unmeasured):
        return found.result(name, beside)
    value, (low, high) = found.estimate.value, found.estimate.interval
    shown = f"{name}={value:.4f}, 95 % interval {low:.4f} to {high:.4f} ({found.told}){beside}"
    limit = {"ece": limits.maximum_ece, "bias": limits.maximum_bias}.get(kind)
    least = max(0.0, low, -high) if kind == "bias" else low
    if limit is None:
        verdict, message = Verdict.NOT_APPLICABLE, f"{shown} (shown, not judged)"
    elif measured.rows < limits.minimum_rows:
        few = too_few(measured.rows, limits.minimum_rows)
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {name}={value:.4f} {few}{beside}"
    elif least > limit:
        verdict, message = Verdict.FAILED, f"FAIL: {shown}, proven beyond {limit:g}"
    else:
        verdict, message = Verdict.PASSED, f"PASS {shown}, not proven beyond {limit:g}"
    return GateResult(name, verdict, message, value, (low, high), limit, table=found.table)


CALIBRATION = Gate(
    name="calibration",
    description="What the model answers is right on average. The ECE is how far the probability of the positive class"
    " is off the share of rows that are of it, on average over ten bins of as many rows each; of several classes it is"
    " how far the probability of the most probable class is above the share of rows where that class is right, since a"
    " model that promises too much does harm and a modest one hardly (overconfidence, Thulasidasan et al. 2019). The"
    " plain ECE (Naeini, Cooper & Hauskrecht 2015) of a perfect model is above 0 on few rows; here the side on which"
    " each bin errs comes from the other half of the rows, so that noise cancels out. A regression is judged by its"
    " bias: the mean of its values less that of the target, in standard deviations of the target. It fails only where"
    " the 95 % interval lies beyond the limit: 0.1 for the ECE, which is a chance of 3 in 10 called 4 in 10, and 0.2"
    " for the bias. The Brier score (Brier 1950) with its parts (Murphy 1973) is shown. Rows that the version was"
    " trained on are left out.",
    limits=CalibrationLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    on_sets=OnSets.LIMITED,
    parts=frozenset({"ece", "brier", "bias"}),
    advice="calibrate its probabilities, as with scikit-learn's CalibratedClassifierCV",
)
