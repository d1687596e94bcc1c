"""What an estimator takes that was fitted on a DataFrame as it is, and the form of it that can be exported.

The service is given every number as float32 and a missing text as the empty one; the exported form means the same by
them as the estimator does by what it was fitted on.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from pipelines.domain.description import Label, Task
from pipelines.errors import NotServable, UsageError
from pipelines.packaging.snapshot import SnapshotDescription
from pipelines.training.advice import advice
from pipelines.training.export import to_onnx
from pipelines.training.parts import answers_task, parts, steps

# The libraries' own training interfaces, whose models are no estimators.
_BOOSTERS = {
    ("lightgbm", "Booster"): "lightgbm.LGBMClassifier or LGBMRegressor",
    ("xgboost", "Booster"): "xgboost.XGBClassifier or XGBRegressor",
    ("catboost", "CatBoost"): "catboost.CatBoostClassifier or CatBoostRegressor",
}


def checked_estimator(estimator: Any, task: Task) -> Pipeline:
    """Return a fitted estimator as a pipeline; raise UsageError for what is none of the task, or not fitted."""
    kind = type(estimator)
    if instead := _BOOSTERS.get((kind.__module__.partition(".")[0], kind.__name__)):
        raise UsageError(
            f"{kind.__module__.partition('.')[0]}.{kind.__name__} is no estimator", next=f"fit {instead} instead"
        )
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    wanted = "regressor" if task is Task.REGRESSION else "classifier"
    if not (hasattr(estimator, "predict") and answers_task(estimator, regresses=task is Task.REGRESSION)):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else type(estimator).__name__
        raise UsageError(
            f"{what} is no {wanted}, which task {task} needs",
            next=f"give a fitted {wanted}, or another task",
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise UsageError(f"{type(estimator).__name__} is not fitted", next="fit it, then log it") from error
    if task is not Task.REGRESSION and not hasattr(estimator, "predict_proba"):
        raise UsageError(
            f"{type(estimator).__name__} has no predict_proba", next=advice(estimator, otherwise="choose one that has")
        )
    return estimator if isinstance(estimator, Pipeline) else Pipeline([("estimator", estimator)])


def names_known(pipeline: Pipeline) -> list[str]:
    """Return the names of the columns that a pipeline was fitted on, none where it does not know them."""
    named = getattr(pipeline, "feature_names_in_", ())
    # CatBoost's own.
    return [str(name) for name in (named if len(named) else getattr(_first(pipeline), "feature_names_", None) or ())]


def columns_taken(pipeline: Pipeline, rows: pd.DataFrame, ids: Sequence[str]) -> list[str]:
    """Return the columns of `rows` that the estimator was fitted on, in its order; raise UsageError for absent ones."""
    others = [name for name in rows.columns if name not in ids]
    named = names_known(pipeline)
    absent = [name for name in named if name not in rows.columns]
    # A model of CatBoost that was read from a file says 0.
    count = getattr(pipeline, "n_features_in_", 0) or len(others)
    if named and not absent:
        return named
    if count != len(others) or (absent and len(absent) < len(named)):
        fitted = f"on {', '.join(map(repr, named))}" if named else f"on {count} columns"
        raise UsageError(
            f"the rows have the columns {', '.join(map(repr, others))}, and the estimator was fitted {fitted}",
            next="give X as the estimator was fitted on it; ids=[...] names columns that are no features",
        )
    return others


def positions_used(pipeline: Pipeline, count: int) -> list[int]:
    """Return which of its columns an estimator looks at: a ColumnTransformer that comes first drops the others."""
    first = _first(pipeline)
    if not isinstance(first, ColumnTransformer):
        return list(range(count))
    found = first._transformer_to_input_indices
    return sorted({int(at) for name, step, _ in first.transformers_ if not _drops(step) for at in found[name]})


def categories_known(pipeline: Pipeline, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts that encoders right behind the columns have seen in each, beside those in any rows."""
    first, known = _first(pipeline), dict[str, list[str]]()
    if not isinstance(first, ColumnTransformer):
        return known
    for name, step, _ in first.transformers_:
        at = [int(each) for each in first._transformer_to_input_indices[name]]
        for part in parts(step):
            seen = getattr(part, "categories_", ())
            for position, texts in zip(at, seen if len(seen) == len(at) else (), strict=False):
                known.setdefault(columns[position], []).extend(each for each in texts if isinstance(each, str) and each)
    return known


def classes_of(pipeline: Pipeline, truth: Sequence[Label]) -> tuple[Label, ...]:
    """Return the labels of an estimator in its order, as plain values of the type that they have in the data."""
    found = [each.item() if isinstance(each, np.generic) else each for each in pipeline.classes_]
    if all(isinstance(each, bool) for each in truth):
        # Some libraries make numbers or texts of them.
        found = [str(each) in ("True", "1", "1.0") for each in found]
    return tuple(found)


def exported(
    pipeline: Pipeline, description: SnapshotDescription, used: Sequence[int], classes: Sequence[str]
) -> bytes:
    """Return the ONNX form of a fitted pipeline, of which the features are the columns at `used`."""
    texts = [feature.name for feature in description.features if feature.type.is_text]
    first = _first(pipeline)
    if len(set(texts)) not in (0, len(description.features)) and not isinstance(first, ColumnTransformer):
        raise NotServable(
            f"step {pipeline.steps[0][0]} ({type(first).__name__}) is given texts ({', '.join(texts)}) among numbers,"
            " which ONNX keeps apart",
            next="put a ColumnTransformer first, that encodes them by OneHotEncoder or OrdinalEncoder",
        )
    try:
        return to_onnx(_exportable(pipeline, description, used), description, tuple(classes))
    except NotServable as error:
        raise NotServable(error.message, next=_what_works(pipeline)) from error


def _exportable(pipeline: Pipeline, description: SnapshotDescription, used: Sequence[int]) -> Pipeline:
    copied = copy.deepcopy(pipeline)
    first = _first(copied)
    if isinstance(first, ColumnTransformer):
        _keep(first, used)
    for part in parts(copied):
        _mean_missing_texts(part)
        for predictor in (each for round_ in getattr(part, "_predictors", ()) for each in round_):
            # The nearest float32: rounding keeps the order of what was compared as float64.
            nodes = predictor.nodes
            with np.errstate(over="ignore"):
                nodes["num_threshold"] = nodes["num_threshold"].astype(np.float32).astype(np.float64)
        if hasattr(part, "get_booster"):
            part.get_booster().feature_names = None
    is_text = {feature.type.is_text for feature in description.features}
    if not isinstance(first, ColumnTransformer) and len(is_text) == 1:
        # What converts takes one input, and each feature is one.
        count = len(description.features)
        empty = np.zeros((1, count), dtype=object if is_text == {True} else np.float32)
        together = ColumnTransformer([("columns", "passthrough", list(range(count)))]).fit(empty)
        copied = Pipeline([("columns", together), *copied.steps])
    return copied


def _keep(first: ColumnTransformer, used: Sequence[int]) -> None:
    """Let a fitted ColumnTransformer be one of the columns at `used` alone."""
    new = {old: position for position, old in enumerate(used)}
    first.transformers_ = [each for each in first.transformers_ if not _drops(each[1])]
    found = first._transformer_to_input_indices
    first._transformer_to_input_indices = {
        name: [new[int(at)] for at in found[name]] for name, *_ in first.transformers_
    }
    first.n_features_in_ = len(used)


def _mean_missing_texts(part: Any) -> None:
    """Put the empty text in place of what a transformer of texts knows as missing."""
    statistics = getattr(part, "statistics_", None)
    if isinstance(statistics, np.ndarray) and statistics.dtype.kind == "O":
        part.missing_values = ""
    categories = getattr(part, "categories_", None)
    if isinstance(categories, list):
        part.categories_ = [
            np.array(["" if pd.isna(each) else each for each in known], dtype=object)
            if known.dtype == object
            else known
            for known in categories
        ]


def _first(pipeline: Any) -> Any:
    while isinstance(pipeline, Pipeline):
        pipeline = pipeline.steps[0][1]
    return pipeline


def _drops(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


def _what_works(pipeline: Pipeline) -> str:
    return advice(pipeline, otherwise="; ".join(_known_ways(pipeline)) or "choose another estimator")


def _known_ways(pipeline: Pipeline) -> Iterator[str]:
    kinds = {type(step).__name__ for _, step in steps(pipeline)}
    if "FunctionTransformer" in kinds:
        yield "compute what FunctionTransformer does in X itself, before fit: clients then send the result"
    if kinds & {"LGBMClassifier", "XGBClassifier", "CatBoostClassifier"}:
        yield "encode categories by OneHotEncoder or OrdinalEncoder in a Pipeline, not in the library itself"
