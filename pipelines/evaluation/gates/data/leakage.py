"""Gate: nothing tells the answers that clients will not send, and the version answers as a model does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.domain.bundle import Feature
from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.offline.rows import FEWEST_ROWS, FEWEST_ROWS_MEANS, SEED, too_few, wilson
from pipelines.evaluation.gates.offline.world import Offline
from pipelines.evaluation.gates.quality.accuracy import Counts
from pipelines.evaluation.gates.quality.metrics import r2

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipelines.evaluation.gates.data.single_features import Alone
    from pipelines.packaging.onnx_model import Scores

DUPLICATES, FEATURES, IDS = "leakage.duplicates", "leakage.features", "leakage.ids"
CONSTANT, PERFECT = "leakage.constant", "leakage.perfect"
_MOST_ROWS = 60
# Without one error on so many rows a score is too good to be believed unseen; on fewer, good models have none.
_DOUBTFUL_ROWS = 200
# Answers that differ by less are the same.
_SAME = 1e-6
# So many rows are asked again to see whether the model looks at an id.
_ASKED_AGAIN = 500


class LeakageLimits(Limits):
    """Limits beyond which a feature, or the whole version, knows too much."""

    feature_auc: float = Field(
        0.99,
        gt=0.5,
        le=1,
        description="the ROC AUC of one feature alone: fails where the interval's lower bound is above",
    )
    feature_r2: float = Field(0.99, gt=0, le=1, description="the R2 of one feature alone, of a regression")
    recall: float = Field(
        0.99, gt=0, le=1, description="the recall of the class that is told worst, judged as `feature_auc` is"
    )
    r2: float = Field(0.999, gt=0, le=1, description="the R2 of a regression, judged so too")
    minimum_rows: int = Field(FEWEST_ROWS, ge=1, description=FEWEST_ROWS_MEANS)


@dataclass(frozen=True)
class Score:
    """How well the version answers: `name` is the recall of the class that it tells worst, or R2."""

    name: str
    observed: float
    interval: tuple[float, float]
    limit: float


@dataclass(frozen=True)
class Leakage:
    """What was found of a version on `rows` rows that it was not trained on.

    `trained_on` of `all_rows` are ones that it was, None where that is unknown; `twice` are rows that are equal to
    another one before. `measured` are rows that single features were measured on, and `fewest_of_a_class` is how many
    the rarest class has of all, None of a regression. `ids` are features that number the rows, with whether the model
    looks at them. `odd` says what could not be measured.
    """

    rows: int
    all_rows: int
    trained_on: int | None
    twice: int
    measured: int = 0
    fewest_of_a_class: int | None = None
    alone: "Sequence[Alone]" = ()
    ids: Sequence[tuple[str, bool]] = ()
    constant: bool = False
    score: Score | None = None
    odd: str = ""


def measure(world: Offline, limits: LeakageLimits) -> Leakage:
    """Look at the rows that judge the version, at each of its features alone, and at its answers."""
    import numpy as np

    candidate = world.candidate
    mask, scores = candidate.judged
    trained_on = None if candidate.trained_on is None else int(candidate.trained_on.sum())
    held = candidate.snapshot.frame
    rows, twice = int(mask.sum()), _twice(held)
    found = Leakage(rows, len(held), trained_on, twice)
    if rows < limits.minimum_rows:
        return found
    if not np.isfinite(scores.numbers).all():
        return Leakage(rows, len(held), trained_on, twice, odd="an answer is not a finite number")
    truth, frame = world.actual[mask], held[mask]
    codes = np.unique(truth, return_inverse=True)[1] if world.task is not Task.REGRESSION else None
    features = [each for each in map(Feature.read, candidate.description.features) if each.name in held.columns]
    measured, alone = _alone(frame, features, truth, codes)
    return Leakage(
        rows=rows,
        all_rows=len(held),
        trained_on=trained_on,
        twice=twice,
        measured=measured,
        fewest_of_a_class=None if codes is None else int(np.bincount(codes).min()),
        alone=alone,
        ids=_ids(world, frame, features, limits),
        constant=bool((np.ptp(scores.numbers, axis=0) <= _SAME * (1 + np.abs(scores.numbers).max())).all()),
        score=_score(truth, codes, scores, limits),
    )


def _twice(frame: "pd.DataFrame") -> int:
    """Return how many rows are equal to one before them, in features and target."""
    import pandas as pd

    return int(pd.util.hash_pandas_object(frame, index=False).duplicated().sum())


def _alone(
    frame: "pd.DataFrame", features: "Sequence[Feature]", truth: "np.ndarray", codes: "np.ndarray | None"
) -> "tuple[int, list[Alone]]":
    """Return how many rows were measured, and what each feature tells alone, the most telling first."""
    import numpy as np

    from pipelines.evaluation.drift import MOST_ROWS
    from pipelines.evaluation.gates.data.single_features import of_classes, of_numbers

    if len(frame) > MOST_ROWS:
        places = np.sort(np.random.default_rng(SEED).choice(len(frame), MOST_ROWS, replace=False))
        frame, truth, codes = frame.iloc[places], truth[places], None if codes is None else codes[places]
    # So many intervals hold at once by Bonferroni's inequality.
    confidence = 1 - 0.05 / max(1, len(features))
    found = []
    for feature in features:
        column = frame[feature.name]
        alone = of_numbers(column, feature, truth, confidence) if codes is None else None
        alone = of_classes(column, feature, codes, confidence) if codes is not None else alone
        found += [alone] if alone else []
    return len(frame), sorted(found, key=lambda each: (-each.interval[0], -each.score, each.name))


def _ids(
    world: Offline, frame: "pd.DataFrame", features: "Sequence[Feature]", limits: LeakageLimits
) -> list[tuple[str, bool]]:
    """Return the features that number the rows, and whether an answer changes with another row's number."""
    import numpy as np

    from pipelines.evaluation.gates.data.single_features import numbers_rows, with_others

    suspects = [each for each in features if numbers_rows(frame[each.name], each, limits.minimum_rows)]
    if not suspects:
        return []
    asked, reference = frame.head(_ASKED_AGAIN), world.candidate.reference
    usual = world.candidate.ask(asked).numbers
    found = []
    for each in suspects:
        # Trees that have learnt the ids of a training by heart may tell none apart of those that came afterwards.
        known = [reference.frame[each.name]] if reference and each.name in reference.frame else []
        others = [world.candidate.ask(with_others(asked, each.name, column)).numbers
                  for column in (asked[each.name], *(column for column in known if column.notna().any()))]  # fmt: skip
        same = _SAME * (1 + np.abs(usual))
        found.append((each.name, any(bool((np.abs(other - usual) > same).any()) for other in others)))
    return found


def _score(truth: "np.ndarray", codes: "np.ndarray | None", scores: "Scores", limits: LeakageLimits) -> Score | None:
    """Return how well the version answers; None where no class has rows enough."""
    from pipelines.evaluation.gates.data.single_features import explained_interval

    if codes is None:
        observed = r2(truth, scores.values)
        if observed is None:
            return None
        return Score("R2", observed, explained_interval(observed, len(truth)), limits.r2)
    assert scores.labels is not None
    right = scores.labels == truth
    counts = [Counts(int(right[codes == each].sum()), int((codes == each).sum())) for each in range(codes.max() + 1)]
    enough = [each for each in counts if each.rows >= limits.minimum_rows]
    if len(enough) < len(counts):
        return None
    worst = min(enough, key=lambda each: wilson(each.right, each.rows)[0])
    return Score(
        "the lowest recall of a class", worst.right / worst.rows, wilson(worst.right, worst.rows), limits.recall
    )


def judge(found: Leakage, limits: LeakageLimits) -> list[GateResult]:
    """Stop what is proven, and hold what is perfect without proof on rows that are many."""
    if found.odd:
        return [_duplicates(found), GateResult(CONSTANT, Verdict.ERROR, f"ERROR: {CONSTANT}: {found.odd}")]
    if found.rows < limits.minimum_rows:
        message = f"INCONCLUSIVE: {FEATURES}: {too_few(found.rows, limits.minimum_rows)}"
        return [_duplicates(found), GateResult(FEATURES, Verdict.INCONCLUSIVE, message)]
    return [_duplicates(found), _features(found, limits), _id_features(found), _constant(found), _perfect(found)]


def _duplicates(found: Leakage) -> GateResult:
    """Show what is there twice: rows of a training are left out, and equal ones may be so by chance."""
    trained = "unknown how many" if found.trained_on is None else f"{found.trained_on:,}"
    message = (
        f"PASS {DUPLICATES}: of {found.all_rows:,} evaluation rows {found.twice:,} are equal to one before them, and"
        f" {trained} are ones that it was trained on (shown, not judged)"
    )
    return GateResult(DUPLICATES, Verdict.PASSED, message, observed=float(found.twice))


def _features(found: Leakage, limits: LeakageLimits) -> GateResult:
    if not found.alone:
        return GateResult(FEATURES, Verdict.NOT_APPLICABLE, "no feature, or no two classes with rows enough")
    metric, limit = ("R2", limits.feature_r2) if found.fewest_of_a_class is None else ("AUC", limits.feature_auc)
    worst = found.alone[0]
    beyond = [each for each in found.alone if each.interval[0] > limit]
    perfect = [each for each in found.alone if each.score >= 1 - 1e-9] if _is_doubtful(found, limits) else []
    span = f"({worst.interval[0]:.4f} to {worst.interval[1]:.4f} over all features at 95 %)"
    beside = f", of {len(found.alone)} features on {found.measured:,} rows"
    shown = f"{FEATURES}: {worst.name} alone has {metric}={worst.score:.4f} {span}"
    if beyond:
        more = f", and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        verdict, message = Verdict.FAILED, f"FAIL: {shown} > {limit:g}{more}{beside}"
    elif perfect:
        message = f"INCONCLUSIVE: {shown}: {perfect[0].name} is never wrong, and not proven to be > {limit:g}{beside}"
        verdict = Verdict.INCONCLUSIVE
    else:
        compared = f"<= {limit:g}" if worst.score <= limit else f"not proven to be > {limit:g}"
        verdict, message = Verdict.PASSED, f"PASS {shown} {compared}{beside}"
    table = Table(
        ("feature", "type", metric, "low", "high", "verdict"),
        tuple(
            (each.name, each.type, round(each.score, 4), round(each.interval[0], 4), round(each.interval[1], 4),
             "knows too much" if each in beyond else "too good" if each in perfect else "plausible")
            for each in found.alone[:_MOST_ROWS]
        ),
    )  # fmt: skip
    return GateResult(FEATURES, verdict, message, worst.score, worst.interval, limit, table=table)


def _id_features(found: Leakage) -> GateResult:
    used = [name for name, looks in found.ids if looks]
    unused = [name for name, looks in found.ids if not looks]
    if used:
        named = ", ".join(used[:5])
        message = (
            f"FAIL: {IDS}: {named}: a value of its own in nearly each of {found.rows:,} rows, and answers change by it"
        )
        return GateResult(IDS, Verdict.FAILED, message, observed=float(len(used)))
    beside = f" ({', '.join(unused[:5])}: no answer changes by it)" if unused else ""
    return GateResult(IDS, Verdict.PASSED, f"PASS {IDS}: no feature numbers the rows{beside}", observed=0.0)


def _constant(found: Leakage) -> GateResult:
    if found.constant:
        message = f"FAIL: {CONSTANT}: it answers the same to all of {found.rows:,} rows"
        return GateResult(CONSTANT, Verdict.FAILED, message)
    return GateResult(CONSTANT, Verdict.PASSED, f"PASS {CONSTANT}: answers differ on {found.rows:,} rows")


def _perfect(found: Leakage) -> GateResult:
    score = found.score
    if score is None:
        return GateResult(
            PERFECT, Verdict.NOT_APPLICABLE, "not every class has rows enough, or the target has one value"
        )
    low, high = score.interval
    shown = f"{PERFECT}: {score.name}={score.observed:.4f} ({low:.4f} to {high:.4f})"
    if low > score.limit:
        verdict, message = Verdict.FAILED, f"FAIL: {shown} > {score.limit:g}: too good to be true"
    elif score.observed >= 1 - 1e-9 and found.rows >= _DOUBTFUL_ROWS:
        message = f"INCONCLUSIVE: {shown}: no error on {found.rows:,} rows, and not proven to be > {score.limit:g}"
        verdict = Verdict.INCONCLUSIVE
    else:
        compared = f"<= {score.limit:g}" if score.observed <= score.limit else f"not proven to be > {score.limit:g}"
        verdict, message = Verdict.PASSED, f"PASS {shown} {compared}"
    return GateResult(PERFECT, verdict, message, score.observed, score.interval, score.limit)


def _is_doubtful(found: Leakage, limits: LeakageLimits) -> bool:
    """Whether so many rows were measured that nothing is perfect on them by chance."""
    fewest = found.fewest_of_a_class
    return found.rows >= _DOUBTFUL_ROWS and (fewest is None or fewest >= limits.minimum_rows)


_KNOWN_TOO_EARLY = (
    "ignore in model.yaml a feature that is only known with the answer, or that says which row it is; where clients do"
    " know it when they ask, say so with an override"
)

LEAKAGE = Gate(
    name="leakage",
    description="Nothing in the rows tells the answers that will be missing when a client asks. `leakage.features`"
    " takes what each feature predicts alone, on the rows that the version was not trained on: of classes the ROC AUC"
    " of its order, or of the shares of the classes in its bins or categories on rows of other folds, for the class"
    " that it tells worst; of a regression R2, of Pearson's or Spearman's correlation or of the means of its bins. It"
    " fails only where the lower bound of the 95 % interval, of all features at once, is above the limit (Newcombe"
    " 2006, method 5, of an AUC; Fisher 1921 of R2). An AUC of 0.99 takes some 450 rows of each class without an"
    " error where there are twenty features, so data of 30 rows that is plainly separable passes. `leakage.ids`"
    " fails where a feature has a value of its own in nearly every row (a category, a text without blanks, or"
    " whole numbers of which fewer are equal than by chance) and answers change by it. `leakage.constant` fails"
    " where all answers are the same. `leakage.perfect` fails where the lowest recall of a class (Wilson 1927), or"
    " R2, is proven to be above its limit. What is perfect on 200 rows or more, and not proven, is held for a"
    " person. `leakage.duplicates` shows rows that are there twice, and those that the version was trained on,"
    " which judge nothing. The kinds of leakage are those of Kapoor and Narayanan, Leakage and the Reproducibility"
    " Crisis in Machine-Learning-Based Science (2023).",
    limits=LeakageLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.MODEL, Need.EVALUATION_SET}),
    overridable=True,
    advice=_KNOWN_TOO_EARLY,
    undecided=f"{_KNOWN_TOO_EARLY}; where too few rows are evaluated, have more of them",
)
