"""What an estimator is made of, and what follows from that for the data it is given."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

# Libraries of the extra, and the modules of their estimators.
BOOSTING = {"lightgbm", "xgboost", "catboost", "onnxmltools"}
# Estimators that compare one value with a threshold: scaling changes nothing for them but the rounding, which could
# send a value to the other side.
_THRESHOLD_MODULES = ("sklearn.tree", "sklearn.ensemble", "lightgbm", "xgboost", "catboost")
# They know what to do with NaN, in ONNX too.
_MISSING_MODULES = ("sklearn.ensemble", "lightgbm", "xgboost", "catboost")
_MISSING = ("HistGradientBoosting", "LGBM", "XGB", "CatBoost")
# They take numbers as labels, and nothing else.
_NUMERIC_LABELS = ("XGBClassifier", "XGBRFClassifier")


def parts(estimator: Any) -> Iterator[Any]:
    """Yield the estimators that `estimator` is made of, itself first: those it was given, and those it has fitted."""
    pending, seen = [estimator], set()
    while pending:
        part = pending.pop()
        if id(part) in seen or isinstance(part, type):
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part
        elif isinstance(part, np.ndarray) and part.dtype == object:
            pending += part.ravel().tolist()
        elif hasattr(part, "get_params"):
            yield part
            pending += vars(part).values() if isinstance(part, BaseEstimator) else []
        elif type(part).__module__.startswith("sklearn.calibration"):
            pending += vars(part).values()


def answers_task(estimator: Any, *, regresses: bool) -> bool:
    """Whether an object is a regressor, or else a classifier; a class is neither, nor is what no library made."""
    try:
        return bool((is_regressor if regresses else is_classifier)(estimator))
    except (AttributeError, TypeError):
        return False


def steps(estimator: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what data passes in a fitted pipeline, each with its way: the names of steps, joined by ` > `."""
    inner: list[tuple[str, Any]] = []
    if isinstance(estimator, Pipeline):
        inner = list(estimator.steps)
    elif isinstance(estimator, ColumnTransformer):
        inner = [(name, step) for name, step, _ in getattr(estimator, "transformers_", estimator.transformers)]
    elif isinstance(estimator, FeatureUnion):
        inner = list(estimator.transformer_list)
    if not inner and hasattr(estimator, "get_params"):
        yield path, estimator
    for name, step in inner:
        yield from steps(step, f"{path} > {name}" if path else name)


def step_of(estimator: Any, part: Any) -> str | None:
    """Return in words which step of `estimator` a part of it is, or is within; None where it is in none."""
    for path, step in steps(estimator):
        if path and any(each is part for each in parts(step)):
            return f"step {path} ({type(step).__name__})"
    return None


def libraries(estimator: Any) -> list[str]:
    """Return the libraries of the extra `boosting` that `estimator` needs, sorted."""
    return sorted({type(part).__module__.partition(".")[0] for part in parts(estimator)} & BOOSTING)


def needs_scaling(estimator: Any) -> bool:
    """Whether numbers should be scaled for it: not if anything in it compares them with a threshold."""
    return not any(_is_threshold(part) for part in parts(estimator))


def takes_missing(estimator: Any) -> bool:
    """Whether it takes NaN for what is missing, and its ONNX form does as well."""
    return type(estimator).__module__.startswith(_MISSING_MODULES) and type(estimator).__name__.startswith(_MISSING)


def needs_numeric_labels(estimator: Any) -> bool:
    """Whether labels have to be given to it as their numbers in the sorted classes."""
    return any(type(part).__name__ in _NUMERIC_LABELS for part in parts(estimator))


def _is_threshold(part: Any) -> bool:
    inner = [each for each in parts(part) if each is not part and hasattr(each, "predict")]
    return not inner and type(part).__module__.startswith(_THRESHOLD_MODULES)
