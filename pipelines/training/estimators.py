"""Builds the estimator that model.yaml names, fits it and asks it.

Other people's code runs here: whatever goes wrong in it becomes a refusal that names where.
"""

import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.pipeline import Pipeline

from pipelines.documents import read_yaml
from pipelines.domain.bundle import Feature
from pipelines.domain.description import Task
from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import Scores
from pipelines.training.advice import advice
from pipelines.training.model_file import Estimator
from pipelines.training.parts import BOOSTING, answers_task, parts
from pipelines.training.workspace import make_importable

INSTALL_BOOSTING = "make setup EXTRA=boosting"
# Parameters that are lists of (name, estimator) or (name, transformer, columns).
_NAMED_STEPS = ("steps", "estimators", "transformers", "transformer_list")
MAKER = "make_estimator"
_SLIPWAY = Path(__file__).parents[1]
# A module that ends its program would end the stage as if it were done.
_RAISED = (Exception, SystemExit)


def build(rule: Estimator, features: tuple[Feature, ...], *, task: Task, seed: int, root: Path) -> BaseEstimator:
    """Return the unfitted classifier or regressor, every unset `random_state` in it being `seed`; raise UsageError.

    A module of the user's own is looked for in `root`, where dvc.yaml has to name it for stage train.
    """
    if rule.module is not None:
        refuse_unwatched(root, rule.module)
        estimator = _made(rule, features, root)
    else:
        estimator = _construct({"path": rule.path, "parameters": rule.parameters}, "estimator")
    regresses = task is Task.REGRESSION
    if not (hasattr(estimator, "fit") and answers_task(estimator, regresses=regresses)):
        wanted = "a regressor" if regresses else "a classifier with predict_proba"
        raise UsageError(
            f"estimator {rule.source} is no {'regressor' if regresses else 'classifier'}, which task {task} needs",
            next=f"choose {wanted}, or another task in model.yaml",
        )
    _seed(estimator, seed)
    _refuse_before_fitting(rule, estimator)
    checked: BaseEstimator = estimator
    return checked


def fit(pipeline: Pipeline, rows: DataFrame, labels: NDArray[Any], rule: Estimator, *, root: Path) -> None:
    """Fit `pipeline`, and put the best model of a search in its place; raise UsageError for what can't be fitted.

    Where the user's own code, which is in `root`, is at fault, its line is named.
    """
    try:
        pipeline.fit(rows, labels)
    except MemoryError:
        raise
    except _RAISED as error:
        otherwise = f"correct {rule.module}.py" if rule.module else "correct estimator.parameters in model.yaml"
        if not rule.encoded:
            otherwise = "with encoded: false it gets the columns as they are, categories as text; encode them in it"
        raise UsageError(
            f"estimator {rule.source} can't be fitted: {_said(error, root)}", next=advice(pipeline, otherwise=otherwise)
        ) from error
    name, fitted = pipeline.steps[-1]
    while hasattr(fitted, "best_estimator_"):
        fitted = fitted.best_estimator_
    pipeline.steps[-1] = (name, fitted)
    if is_classifier(fitted):
        _refuse_without_probabilities(rule, fitted)


def values_of(pipeline: Pipeline, rows: DataFrame) -> NDArray[np.float64]:
    """Return what a fitted regression answers, (rows,); raise NotServable where it can't."""
    try:
        answered: NDArray[np.float64] = np.asarray(pipeline.predict(rows), dtype=np.float64)
    except MemoryError:
        raise
    except Exception as error:
        raise NotServable(f"it can't answer the evaluation rows: {_said(error)}") from error
    if answered.size != len(rows) or not np.isfinite(answered).all():
        raise NotServable(f"it answers {len(rows)} evaluation rows with {answered.shape}, or not with numbers")
    return answered.reshape(-1)


def probabilities_of(pipeline: Pipeline, rows: DataFrame) -> NDArray[np.float64]:
    """Return what a fitted `pipeline` answers, (rows, classes); raise NotServable where it can't.

    Nor may it answer another label than the most probable one, by a threshold of its own: ONNX knows nothing of that.
    """
    try:
        answered: NDArray[np.float64] = np.asarray(pipeline.predict_proba(rows), dtype=np.float64)
        labels = np.ravel(pipeline.predict(rows))
    except MemoryError:
        raise
    except Exception as error:
        raise NotServable(f"it can't answer the evaluation rows: {_said(error)}") from error
    if answered.shape != (len(rows), len(pipeline.classes_)) or not np.isfinite(answered).all():
        raise NotServable(f"it answers {len(rows)} evaluation rows with {answered.shape}, or not with numbers")
    clear = Scores(answered).clear
    otherwise = int(np.sum(labels[clear] != pipeline.classes_[np.argmax(answered[clear], axis=1)]))
    if otherwise:
        raise NotServable(f"its label is not the most probable one in {otherwise} of {len(rows)} evaluation rows")
    return answered


def import_path(path: str, where: str) -> Any:
    """Return what `path` names; raise UsageError, for a library of an extra with the command that installs it."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except _RAISED as error:
        if (library := missing_library(error)) is not None:
            raise not_installed(library) from error
        raise UsageError(
            f"{where} {path} does not exist: {_said(error)}", next="give a class by its import path"
        ) from error


def not_installed(library: str) -> UsageError:
    """Return the refusal for a library of the extra `boosting` that is not there."""
    return UsageError(f"{library} is not installed", next=f'run "{INSTALL_BOOSTING}"')


def refuse_unwatched(root: Path, module: str) -> None:
    """Raise UsageError unless dvc.yaml, where there is one, has `module` among the dependencies of stage train."""
    description = root / "dvc.yaml"
    if not description.is_file():
        return
    stages = read_yaml(description).get("stages", {})
    named = {Path(str(path)) for path in stages.get("train", {}).get("deps", ())}
    path = Path(*module.split("."))
    files = (path.with_suffix(".py"), path, *path.parents[:-1])
    if not named & set(files):
        raise UsageError(
            f"dvc.yaml does not name {files[0]} as a dependency of stage train, so a change of it would not train anew",
            next=f"add {files[0]}, and whatever else of yours it imports, to the deps of train in dvc.yaml",
        )


def _made(rule: Estimator, features: tuple[Feature, ...], root: Path) -> Any:
    make_importable(root)
    assert rule.module is not None
    try:
        make: Callable[..., Any] = getattr(importlib.import_module(rule.module), MAKER)
        made = make(features, **rule.parameters)
    except _RAISED as error:
        if (library := missing_library(error)) is not None:
            raise not_installed(library) from error
        raise UsageError(
            f"module {rule.module} gives no estimator: {_said(error, root)}",
            next=f"it needs a function {MAKER}(features) that returns an unfitted estimator",
        ) from error
    if isinstance(made, type):
        raise UsageError(
            f"{MAKER} of module {rule.module} returns the class {made.__name__}, and no estimator",
            next=f"have it return {made.__name__}(), an object of it",
        )
    return made


def _construct(rule: Mapping[str, Any], where: str) -> Any:
    path, given = rule["path"], rule.get("parameters") or {}
    kind = import_path(str(path), where)
    if not (inspect.isclass(kind) or str(path).startswith("scipy.stats.")):
        raise UsageError(f"{where} {path} is not a class", next="name an estimator's class")
    if not (hasattr(kind, "get_params") or str(path).startswith(("sklearn.", "scipy.stats."))):
        raise UsageError(f"{where} {path} is not an estimator", next="name a class with scikit-learn's interface")
    parameters = {key: _value(value, f"{where}.parameters.{key}", key) for key, value in given.items()}
    try:
        return kind(**parameters)
    except Exception as error:
        raise UsageError(f"{where} {path} can't be made: {_said(error)}", next=f"correct {where}.parameters") from error


def _value(value: Any, where: str, key: str = "") -> Any:
    """Return a parameter with every `{path, parameters}` in it made an object, and named steps made pairs."""
    if isinstance(value, Mapping):
        if "path" in value and set(value) <= {"path", "parameters"}:
            return _construct(value, where)
        return {name: _value(inner, f"{where}.{name}", name) for name, inner in value.items()}
    if isinstance(value, list):
        made = [_value(inner, f"{where}.{position}") for position, inner in enumerate(value)]
        return [tuple(item) if isinstance(item, list) else item for item in made] if key in _NAMED_STEPS else made
    return value


def _seed(estimator: Any, seed: int) -> None:
    unset = [
        name
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    if unset:
        estimator.set_params(**dict.fromkeys(unset, seed))


def _refuse_before_fitting(rule: Estimator, estimator: Any) -> None:
    if rule.encoded and any(isinstance(part, ColumnTransformer) for part in parts(estimator)):
        raise UsageError(
            f"estimator {rule.source} has a ColumnTransformer, but is given encoded features without names",
            next="write encoded: false into estimator: it is then given the columns themselves",
        )
    # A stack has them once it is fitted, and a regressor has none.
    if is_classifier(estimator) and not any(isinstance(part, StackingClassifier) for part in parts(estimator)):
        _refuse_without_probabilities(rule, estimator)


def _refuse_without_probabilities(rule: Estimator, estimator: Any) -> None:
    if hasattr(estimator, "predict_proba"):
        return
    raise UsageError(
        f"estimator {rule.source} gives no probabilities: {type(estimator).__name__} has no predict_proba",
        next=advice(estimator, otherwise="choose a classifier with predict_proba"),
    )


def missing_library(error: BaseException) -> str | None:
    """Return which library of the extra `boosting` an import failed for."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return name if name in BOOSTING else None


def _said(error: BaseException, root: Path | None = None) -> str:
    """Return the first lines of an error; of one in a person's file in `root`, with the last line there it passed."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, KeyError) and error.args and not str(error.args[0]).count(" "):
        # Its text is the key and nothing else; pandas says a sentence.
        text = f"there is no {text}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if root and _is_own(Path(each.filename), root)]
    place = f" in {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return f"{text or type(error).__name__}{place}"


def _is_own(file: Path, root: Path) -> bool:
    """Whether a file of `root` is a person's own: libraries, and Slipway itself, may lie in it as well."""
    return file.is_relative_to(root) and "site-packages" not in file.parts and not file.is_relative_to(_SLIPWAY)
