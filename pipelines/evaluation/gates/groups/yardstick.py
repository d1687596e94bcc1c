"""What can be reached on the rows that judge a version: a slice that is hard for everybody is nobody's harm.

That is what production answers to them. Without a champion to compare with, it is what a model answers that was learned
from these rows alone, each row by a model that did not see it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.domain.bundle import Feature
from pipelines.domain.description import Task, label_text
from pipelines.errors import NotServable
from pipelines.evaluation.gates.groups.losses import ERROR, LOG_LOSS, MAE, Judged, Losses, log_losses, losses_of
from pipelines.evaluation.gates.offline.rows import SEED
from pipelines.evaluation.gates.offline.world import Offline

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_FOLDS, _FOLDS_OF_MANY, _MANY = 5, 2, 20_000
_MOST_CATEGORIES = 100
_ITERATIONS = 60


def champion_losses(world: Offline) -> Judged | None:
    """Return what production loses on the rows of the set that it can be judged by.

    None where there is no champion, or none of the same task and classes that can be asked this set.
    """
    import numpy as np

    champion, candidate = world.champion, world.candidate.description
    if champion is None or champion.lacking or champion.description.task is not candidate.task:
        return None
    theirs, ours = (set(map(label_text, each.output.classes)) for each in (champion.description, candidate))
    if theirs != ours:
        return None
    try:
        rows, scores = champion.judged
    except NotServable:
        # Nothing that the candidate is to blame for; the comparison says so.
        return None
    if not np.isfinite(scores.numbers).all():
        return None
    return Judged(rows, losses_of(scores, champion.description, world.actual[rows]))


def learned_losses(world: Offline, chosen: "NDArray[np.int64]") -> Losses:
    """Return the losses of a model learned from rows of the set, by their places."""
    snapshot = world.snapshot
    identities = None if snapshot.identities is None else snapshot.identities[chosen]
    features = snapshot.description.features
    return learned(world.task, snapshot.frame.iloc[chosen], features, world.actual[chosen], identities)


def learned(
    task: Task,
    frame: "pd.DataFrame",
    features: Sequence[Feature],
    truth: "NDArray[Any]",
    identities: "NDArray[np.uint64] | None" = None,
) -> Losses:
    """Return the losses (n,) of gradient boosting on rows of this truth, each fitted without the row's own fold.

    Rows of one identity lie in one fold, or where each has its own, rows of equal values do (Friedman 2001; by
    scikit-learn's histograms).
    """
    from threadpoolctl import threadpool_limits

    # On a busy machine threads that wait for each other take many times as long as one.
    with threadpool_limits(1, user_api="openmp"):
        return _learned(task, frame, features, truth, identities)


def _learned(
    task: Task,
    frame: "pd.DataFrame",
    features: Sequence[Feature],
    truth: "NDArray[Any]",
    identities: "NDArray[np.uint64] | None",
) -> Losses:
    import numpy as np

    matrix, texts = _matrix(frame, features)
    folds = _folds(matrix, identities)
    if task is Task.REGRESSION:
        values = np.empty(len(truth))
        for fold in np.unique(folds):
            inside = folds == fold
            values[inside] = _regressed(matrix, truth, inside, texts)
        return {MAE: np.abs(truth - values)}
    classes, codes = np.unique(truth, return_inverse=True)
    probabilities = np.empty((len(truth), len(classes)))
    for fold in np.unique(folds):
        inside = folds == fold
        probabilities[inside] = _classified(matrix, codes, inside, texts, len(classes))
    wrong = (probabilities.argmax(axis=1) != codes).astype(np.float64)
    return {ERROR: wrong, LOG_LOSS: log_losses(probabilities, codes)}


def _folds(matrix: "NDArray[Any]", identities: "NDArray[np.uint64] | None") -> "NDArray[np.int64]":
    import numpy as np
    import pandas as pd

    rows = len(matrix)
    own = np.arange(rows) if identities is None else np.unique(identities, return_inverse=True)[1]
    if own.max() == rows - 1:
        hashes = pd.util.hash_pandas_object(pd.DataFrame(matrix), index=False)
        own = np.unique(hashes.to_numpy(), return_inverse=True)[1]
    folds = _FOLDS if rows <= _MANY else _FOLDS_OF_MANY
    return np.random.default_rng(SEED).permutation(rows)[own] % folds


def _matrix(frame: "pd.DataFrame", features: Sequence[Feature]) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    """Return the features as numbers (n, f), texts by the places of their most common values, and which are texts."""
    import numpy as np
    import pandas as pd

    from pipelines.packaging.served import model_values

    columns: list[Any] = []
    for each in features:
        if each.type.is_text:
            counts = frame[each.name].astype(str).where(frame[each.name].notna()).value_counts()
            codes = pd.Index(counts.index[:_MOST_CATEGORIES]).get_indexer(pd.Index(frame[each.name].astype(str)))
            columns.append(np.where(codes < 0, np.nan, codes))
        else:
            columns.append(model_values(frame[each.name], each))
    return np.column_stack(columns), np.array([each.type.is_text for each in features])


def _classified(
    matrix: "NDArray[Any]", codes: "NDArray[Any]", inside: "NDArray[Any]", texts: "NDArray[Any]", classes: int
) -> "NDArray[Any]":
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    known = np.unique(codes[~inside])
    answer = np.zeros((int(inside.sum()), classes))
    if len(known) < 2:
        answer[:, known] = 1.0
        return answer
    # A tree a class and iteration.
    iterations = _ITERATIONS if classes == 2 else max(10, 2 * _ITERATIONS // classes)
    model = HistGradientBoostingClassifier(max_iter=iterations, **_settings(texts))
    answer[:, known] = model.fit(matrix[~inside], codes[~inside]).predict_proba(matrix[inside])
    return answer


def _regressed(
    matrix: "NDArray[Any]", truth: "NDArray[Any]", inside: "NDArray[Any]", texts: "NDArray[Any]"
) -> "NDArray[Any]":
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_iter=_ITERATIONS, **_settings(texts))
    values: NDArray[Any] = model.fit(matrix[~inside], truth[~inside]).predict(matrix[inside])
    return values


def _settings(texts: "NDArray[Any]") -> dict[str, Any]:
    """Few leaves and small steps: it has to hold for the few rows of an evaluation set."""
    return {
        "learning_rate": 0.08,
        "max_leaf_nodes": 8,
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": SEED,
        "categorical_features": texts if texts.any() else None,
    }
