"""Takes the figures of a report, inside of the job that measures: what both models answered is there already.

They judge nothing. What can't be taken of some data is left out, and keeps no version from being measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.domain.description import label_text
from pipelines.domain.figures import (
    MOST_BINS,
    MOST_CLASSES,
    MOST_LINES,
    MOST_MOVES,
    MOST_POINTS,
    Bin,
    Confusion,
    Difference,
    Figures,
    Histogram,
    Line,
    Measured,
    Metric,
    Move,
    Versus,
)
from pipelines.errors import NotServable
from pipelines.evaluation.gates.offline.rows import SEED
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.quality.metrics import auc, log_loss, macro_auc, mae, r2, rmse
from pipelines.evaluation.gates.quality.shares import Share, mean_share

if TYPE_CHECKING:
    import numpy as np

    from pipelines.packaging.onnx_model import Scores

_CALIBRATION_BINS = 10
_DIGITS = 5
# Of a regression: a value that is off production's by no more of it is the same to users.
_SAME = 0.01
_TOO_LARGE = 1e15


@dataclass(frozen=True)
class _Answers:
    """The truth of n rows and what a model answers to them, by the candidate's classes.

    Of a classifier `truth` and `said` are class numbers, -1 for a label that the candidate does not know, and
    `probabilities` are (n, C); `positive` is the number of the positive class. Of a regression they are values, and
    there are no probabilities.
    """

    truth: "np.ndarray"
    said: "np.ndarray"
    probabilities: "np.ndarray | None"
    positive: int | None

    @property
    def score(self) -> "np.ndarray":
        """The one number of a row that is drawn: P(positive), the largest probability, or the value."""
        if self.probabilities is None:
            return self.said
        return self.probabilities.max(axis=1) if self.positive is None else self.probabilities[:, self.positive]


def take_figures(world: Offline) -> Figures | None:
    """Return the figures of a candidate, beside the champion's where both can be asked; None where there are none."""
    try:
        rows, scores = world.candidate.judged
        figures = _of_one(_answers(world, rows, scores, world.candidate))
        return figures.model_copy(update={"versus": _versus(world)})
    except (NotServable, ArithmeticError, LookupError, TypeError, ValueError):
        # Gates have said what is wrong with a model; data that can't be drawn is nothing to hold it for.
        return None


def _of_one(answers: _Answers) -> Figures:
    rows = len(answers.truth)
    if not rows or not _can_be_drawn(answers):
        return Figures(rows=rows)
    metrics = tuple(Measured(metric=name, value=_short(value)) for name, value in _metrics(answers).items())
    if answers.probabilities is None:
        return Figures(rows=rows, metrics=metrics, values=_sampled(answers), residuals=_residuals(answers))
    classes = _drawn_classes(answers)
    return Figures(
        rows=rows,
        metrics=metrics,
        roc=tuple(line for each in classes if (line := _roc(answers, each))),
        precision_recall=tuple(line for each in classes if (line := _precision_recall(answers, each))),
        calibration=_calibration(answers),
        confusion=_confusion(answers),
    )


def _versus(world: Offline) -> Versus | None:
    """Compare both on the rows that the gate `comparison` takes: those of the accepted set, if it has to be."""
    import numpy as np

    both = next((each for each in (world, world.accepted) if each and _comparable(each)), None)
    if both is None or both.champion is None:
        return None
    try:
        theirs_taken, theirs = both.champion.asked
        ours_taken, ours = both.candidate.asked
    except NotServable:
        return None
    rows = theirs_taken & ours_taken & both.champion.unseen & both.candidate.unseen
    candidate = _answers(both, rows, ours.take(np.flatnonzero(rows[ours_taken])), both.candidate)
    champion = _answers(both, rows, theirs.take(np.flatnonzero(rows[theirs_taken])), both.champion)
    if not rows.any() or not (_can_be_drawn(candidate) and _can_be_drawn(champion)):
        return None
    return _compared(candidate, champion)


def _comparable(world: Offline) -> bool:
    """Whether both can be asked the same rows, and answer the same kind of thing."""
    ours, theirs = world.candidate, world.champion
    if theirs is None or ours.lacking or theirs.lacking:
        return False
    same_task = ours.description.task is theirs.description.task
    return same_task and sorted(_names(ours)) == sorted(_names(theirs))


def _names(bundle: OpenedBundle) -> list[str]:
    return [label_text(each) for each in bundle.description.output.classes]


def _answers(world: Offline, rows: "np.ndarray", scores: "Scores", model: OpenedBundle) -> _Answers:
    """Return the answers of a model to the rows of the set that are chosen, in the candidate's order of classes."""
    import numpy as np

    truth = world.actual[rows]
    if scores.labels is None:
        return _Answers(truth.astype(np.float64), scores.values, None, None)
    names, own = _names(world.candidate), _names(model)
    numbers = {name: number for number, name in enumerate(names)}
    positive = world.candidate.description.output.positive
    return _Answers(
        np.array([numbers.get(str(each), -1) for each in truth], dtype=np.int64),
        np.array([numbers.get(str(each), -1) for each in scores.labels], dtype=np.int64),
        np.clip(scores.numbers[:, [own.index(name) for name in names]], 0.0, 1.0),
        None if positive is None else numbers[label_text(positive)],
    )


def _can_be_drawn(answers: _Answers) -> bool:
    import numpy as np

    numbers = answers.said if answers.probabilities is None else answers.probabilities
    return all(bool((np.isfinite(each) & (np.abs(each) < _TOO_LARGE)).all()) for each in (numbers, answers.truth))


def _metrics(answers: _Answers) -> Mapping[Metric, float]:
    """Return the metrics of a task that the rows have."""
    truth, said = answers.truth, answers.said
    if answers.probabilities is None:
        found: dict[Metric, float | None] = {
            Metric.RMSE: rmse(truth, said),
            Metric.MAE: mae(truth, said),
            Metric.R2: r2(truth, said),
        }
    elif answers.positive is None:
        known, classes = bool((truth >= 0).all()), answers.probabilities.shape[1]
        found = {
            Metric.ACCURACY: float((truth == said).mean()),
            Metric.AUC: macro_auc(answers.probabilities, truth) if known else None,
            Metric.F1: mean_share(Share.F1, said, truth, classes) if known and (said >= 0).all() else None,
            Metric.LOG_LOSS: log_loss(answers.probabilities, truth) if known else None,
        }
    else:
        found = _of_two(answers, answers.positive)
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _of_two(answers: _Answers, positive: int) -> dict[Metric, float | None]:
    import numpy as np

    is_so, is_said = answers.truth == positive, answers.said == positive
    hits, score = int((is_so & is_said).sum()), answers.score
    mixed = bool(is_so.any() and not is_so.all())
    loss = -np.mean(np.log(np.clip(np.where(is_so, score, 1 - score), 1e-15, 1.0)))
    return {
        Metric.ACCURACY: float((answers.truth == answers.said).mean()),
        Metric.PRECISION: hits / int(is_said.sum()) if is_said.any() else None,
        Metric.RECALL: hits / int(is_so.sum()) if is_so.any() else None,
        Metric.F1: 2 * hits / int(is_so.sum() + is_said.sum()) if (is_so | is_said).any() else None,
        Metric.AUC: auc(score, is_so) if mixed else None,
        Metric.LOG_LOSS: float(loss),
        Metric.BRIER: float(np.mean((score - is_so) ** 2)),
    }


def _drawn_classes(answers: _Answers) -> list[int]:
    """Return the classes with a curve of their own: the positive one, or the most frequent ones."""
    return [answers.positive] if answers.positive is not None else _frequent(answers)[:MOST_LINES]


def _frequent(answers: _Answers) -> list[int]:
    """Return the numbers of the classes, the most frequent in the truth first."""
    import numpy as np

    assert answers.probabilities is not None
    counts = np.bincount(answers.truth[answers.truth >= 0], minlength=answers.probabilities.shape[1])
    return [int(each) for each in np.argsort(-counts, kind="stable")]


def _ranked(answers: _Answers, of: int) -> "tuple[np.ndarray, np.ndarray] | None":
    """Return how many rows of a class, and of the others, have at least each score; None without either."""
    import numpy as np

    assert answers.probabilities is not None
    is_so = answers.truth == of
    if is_so.all() or not is_so.any():
        return None
    score = answers.probabilities[:, of]
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(is_so[order])[ends]
    return hits, ends + 1 - hits


def _roc(answers: _Answers, of: int) -> Line | None:
    import numpy as np

    ranked = _ranked(answers, of)
    if ranked is None:
        return None
    hits, misses = (np.concatenate([[0], each]) for each in ranked)
    return _line(misses / misses[-1], hits / hits[-1], _position(answers, of))


def _precision_recall(answers: _Answers, of: int) -> Line | None:
    ranked = _ranked(answers, of)
    if ranked is None:
        return None
    hits, misses = ranked
    return _line(hits / hits[-1], hits / (hits + misses), _position(answers, of))


def _position(answers: _Answers, of: int) -> int | None:
    return None if of == answers.positive else of


def _line(x: "np.ndarray", y: "np.ndarray", position: int | None = None) -> Line:
    """Return a curve thinned to the points that may be drawn, its ends among them."""
    import numpy as np

    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return Line(position=position, x=_shorts(x[kept]), y=_shorts(y[kept]))


def _calibration(answers: _Answers) -> tuple[Bin, ...]:
    """Return ten equal ranges of what was said, those without rows left out."""
    import numpy as np

    said = answers.score
    so = answers.truth == answers.said if answers.positive is None else answers.truth == answers.positive
    numbers = np.minimum((said * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    members = [numbers == each for each in range(_CALIBRATION_BINS)]
    return tuple(
        Bin(said=_short(said[each].mean()), so=_short(so[each].mean()), rows=int(each.sum()))
        for each in members
        if each.any()
    )


def _confusion(answers: _Answers) -> Confusion:
    drawn = sorted(_frequent(answers)[:MOST_CLASSES])
    pairs = [[(answers.truth == so) & (answers.said == said) for said in drawn] for so in drawn]
    return Confusion(positions=tuple(drawn), counts=tuple(tuple(int(each.sum()) for each in row) for row in pairs))


def _sampled(answers: _Answers) -> Line:
    """Return some of the rows as points, always the same ones of as many rows."""
    import numpy as np

    rows = len(answers.truth)
    chosen = np.sort(np.random.default_rng(SEED).permutation(rows)[:MOST_POINTS])
    return Line(x=_shorts(answers.truth[chosen]), y=_shorts(answers.said[chosen]))


def _residuals(answers: _Answers) -> Histogram | None:
    return _histogram(answers.said - answers.truth)


def _histogram(
    candidate: "np.ndarray", champion: "np.ndarray | None" = None, *, shares: bool = False
) -> Histogram | None:
    """Count values between edges that all have in common; those of probabilities are always the same."""
    import numpy as np

    together = candidate if champion is None else np.concatenate([candidate, champion])
    low, high = (0.0, 1.0) if shares else (float(together.min()), float(together.max()))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    # Rounded first: the counts are of the edges that are shown.
    edges = np.array(_shorts(np.linspace(low, high, (MOST_BINS // 2) + 1)))
    if not (np.diff(edges) > 0).all():
        return None
    inside = [None if each is None else np.clip(each, edges[0], edges[-1]) for each in (candidate, champion)]
    counts = [None if each is None else tuple(map(int, np.histogram(each, edges)[0])) for each in inside]
    assert counts[0] is not None
    return Histogram(edges=tuple(edges.tolist()), candidate=counts[0], champion=counts[1])


def _compared(candidate: _Answers, champion: _Answers) -> Versus:
    """Return what changes for users on rows that both have answered."""
    import numpy as np

    truth, ours, theirs = candidate.truth, candidate.said, champion.said
    if candidate.probabilities is None:
        changed = np.abs(ours - theirs) > _SAME * np.abs(theirs)
        nearer = np.abs(ours - truth) - np.abs(theirs - truth)
        better, worse = changed & (nearer < 0), changed & (nearer > 0)
    else:
        changed = ours != theirs
        better, worse = changed & (ours == truth), changed & (theirs == truth)
    before, after = _metrics(champion), _metrics(candidate)
    differences = tuple(
        Difference(metric=name, candidate=_short(value), champion=_short(before[name]))
        for name, value in after.items()
        if name in before
    )
    return Versus(
        rows=len(truth),
        changed=int(changed.sum()),
        better=int(better.sum()),
        worse=int(worse.sum()),
        mean_shift=_short(float(np.abs(candidate.score - champion.score).mean())),
        moves=_moves(ours[changed], theirs[changed]) if candidate.probabilities is not None else (),
        metrics=differences,
        roc=None if candidate.positive is None else _roc(champion, candidate.positive),
        scores=_histogram(candidate.score, champion.score, shares=candidate.probabilities is not None),
    )


def _moves(after: "np.ndarray", before: "np.ndarray") -> tuple[Move, ...]:
    """Return from which class to which the changed rows go, the most frequent first."""
    import numpy as np

    known = (after >= 0) & (before >= 0)
    pairs, counts = np.unique(np.column_stack([before, after])[known], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_MOVES]
    return tuple(Move(before=int(pairs[each, 0]), after=int(pairs[each, 1]), rows=int(counts[each])) for each in order)


def _shorts(values: "np.ndarray") -> tuple[float, ...]:
    return tuple(map(_short, values.tolist()))


def _short(value: float) -> float:
    """Return a number in as many digits as a drawing shows."""
    return float(f"{value:.{_DIGITS}g}")
