"""The models of the zoo: each bad in one way, with the gate that is there to find it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from pipelines.domain.description import Task
from pipelines.training.parts import needs_scaling
from tests.zoo.customers import CATEGORIES, LEFT, SPEND, customers
from tests.zoo.versions import TARGET, Version, packaged, taken

TRAIN_ROWS, MORE_ROWS, EVALUATION_ROWS = 4_000, 1_000, 1_400
_GOOD = {
    Task.BINARY: GradientBoostingClassifier(n_estimators=60, max_depth=3, random_state=0),
    Task.MULTICLASS: GradientBoostingClassifier(n_estimators=30, max_depth=3, random_state=0),
    Task.REGRESSION: GradientBoostingRegressor(n_estimators=60, max_depth=3, random_state=0),
}
_LINEAR = {Task.BINARY: LogisticRegression(max_iter=1000), Task.MULTICLASS: LogisticRegression(max_iter=1000)}
_LINEAR |= {Task.REGRESSION: LinearRegression()}
Change = Callable[[pd.DataFrame, Task], pd.DataFrame]


@dataclass(frozen=True)
class Animal:
    """A bad model: `make` builds its version at a place, and `gate` has to refuse it.

    It is judged `beside` a good champion, or alone where it is about a column that the champion does not know.
    """

    name: str
    gate: str
    make: Callable[[Path, Task], Version]
    tasks: tuple[Task, ...] = tuple(Task)
    beside: bool = True


@cache
def training_rows(seed: int = 1, shift: float = 0.0) -> pd.DataFrame:
    """Return customers to train on."""
    return customers(TRAIN_ROWS, seed, shift=shift)


@cache
def evaluation_rows(seed: int = 2) -> pd.DataFrame:
    """Return customers to judge by."""
    return customers(EVALUATION_ROWS, seed)


def champion(place: Path, task: Task) -> Version:
    """Return the version of a good model."""
    return _version(place, task, training_rows())


def retrain(place: Path, task: Task, seed: int = 11) -> Version:
    """Return the version of the same model, trained on more customers, which are drawn by the seed."""
    return _version(place, task, pd.concat([training_rows(), customers(MORE_ROWS, seed)], ignore_index=True))


def fitted(train: pd.DataFrame, task: Task, estimator: BaseEstimator | None = None) -> Pipeline:
    """Return an estimator, the good one unless told otherwise, fitted on rows of customers with their categories."""
    rows = taken(train)
    numbers = [name for name in rows if name not in CATEGORIES]
    categories = [name for name in rows if name in CATEGORIES]
    encoder = OneHotEncoder(dtype=np.float32, sparse_output=False)
    last = clone(estimator or _GOOD[task])
    # Scaled, a value next to a threshold could come to its other side in ONNX.
    numeric = StandardScaler() if needs_scaling(last) else "passthrough"
    features = ColumnTransformer([("numbers", numeric, numbers), ("categories", encoder, categories)])
    pipeline = Pipeline([("features", features), ("estimator", last)])
    return pipeline.fit(rows, train[TARGET[task]])


def _version(
    place: Path,
    task: Task,
    train: pd.DataFrame,
    *,
    estimator: BaseEstimator | None = None,
    learned: pd.DataFrame | None = None,
    evaluation: pd.DataFrame | None = None,
    change: Callable[[Pipeline], None] = lambda pipeline: None,
    **more: Any,
) -> Version:
    """Return a version that says it was trained on `train`, and was so on `learned` where that is given."""
    pipeline = fitted(train if learned is None else learned, task, estimator)
    change(pipeline)
    return packaged(place, pipeline, train, evaluation_rows() if evaluation is None else evaluation, task, **more)


def _taught(change: Change) -> Callable[[Path, Task], Version]:
    """Return how to make a model that learned from changed rows."""
    return lambda place, task: _version(place, task, training_rows(), learned=change(training_rows().copy(), task))


def _without_what_tells(train: pd.DataFrame, task: Task) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    for name in ("age", "tenure", "plan", "income"):
        train[name] = draw.permutation(train[name].to_numpy())
    return train


def _against_women(train: pd.DataFrame, task: Task) -> pd.DataFrame:
    return _mistaught(train, task, np.asarray(train["gender"] == "f"), share=0.6)


def _wrong_in_one_place(train: pd.DataFrame, task: Task) -> pd.DataFrame:
    return _mistaught(train, task, np.asarray((train["region"] == "west") & (train["plan"] == "plus")), share=1.0)


def _mistaught(train: pd.DataFrame, task: Task, where: "np.ndarray[Any, Any]", *, share: float) -> pd.DataFrame:
    """Teach another answer in a share of the rows of a group."""
    target, chosen = TARGET[task], where & (np.random.default_rng(0).random(len(train)) < share)
    if task is Task.REGRESSION:
        train.loc[chosen, target] += 40
    elif task is Task.BINARY:
        train.loc[chosen, target] = np.where(train.loc[chosen, target] == "yes", "no", "yes")
    else:
        train.loc[chosen, target] = train.loc[chosen, target].map(
            {"bronze": "gold", "gold": "silver", "silver": "bronze"}
        )
    return train


def _overfit(place: Path, task: Task) -> Version:
    tree = DecisionTreeRegressor(random_state=0) if task is Task.REGRESSION else DecisionTreeClassifier(random_state=0)
    return _version(place, task, training_rows(), estimator=tree)


def _brittle(place: Path, task: Task) -> Version:
    """Make a model that answers by whether the years of age are an even number."""
    train = training_rows().copy()
    even = np.floor(train["age"]) % 2 == 0
    if task is Task.REGRESSION:
        train[SPEND] = np.where(even, 40.0, 110.0)
    else:
        train[LEFT] = np.where(even, "no", "yes")
    tree = DecisionTreeRegressor(random_state=0) if task is Task.REGRESSION else DecisionTreeClassifier(random_state=0)
    return _version(place, task, training_rows(), learned=train, estimator=tree)


def _miscalibrated(place: Path, task: Task) -> Version:
    def overconfident(pipeline: Pipeline) -> None:
        pipeline[-1].coef_ *= 5
        pipeline[-1].intercept_ *= 5

    return _version(place, task, training_rows(), estimator=_LINEAR[task], change=overconfident)


def _constant(place: Path, task: Task) -> Version:
    def forget(pipeline: Pipeline) -> None:
        pipeline[-1].coef_ = np.zeros_like(pipeline[-1].coef_)

    return _version(place, task, training_rows(), estimator=_LINEAR[task], change=forget)


def _leaking(place: Path, task: Task) -> Version:
    def told(frame: pd.DataFrame) -> pd.DataFrame:
        codes = frame[SPEND] if task is Task.REGRESSION else frame[TARGET[task]].astype("category").cat.codes
        noise = np.random.default_rng(3).normal(0, 0.01, len(frame))
        return frame.assign(refund=codes.astype(float) + noise)

    return _version(place, task, told(training_rows()), evaluation=told(evaluation_rows()))


def _knows_the_customer(place: Path, task: Task) -> Version:
    def numbered(frame: pd.DataFrame, first: int) -> pd.DataFrame:
        return frame.assign(customer=np.random.default_rng(first).permutation(len(frame)).astype(float) + first)

    train, evaluation = numbered(training_rows(), 10_000), numbered(evaluation_rows(), 50_000)
    return _version(place, task, train, evaluation=evaluation)


def _of_other_customers(place: Path, task: Task) -> Version:
    return _version(place, task, training_rows(5, 1.5))


def _takes_no_plan(place: Path, task: Task) -> Version:
    rows = training_rows().drop(columns="plan")
    return _version(place, task, rows, evaluation=evaluation_rows().drop(columns="plan"))


def _with_categories_in_another_order(place: Path, task: Task) -> Version:
    def turned(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "cats_strings":
                    attribute.strings[:] = [*attribute.strings[1:], attribute.strings[0]]
        changed: bytes = model.SerializeToString()
        return changed

    return _version(place, task, training_rows(), graph=turned)


def _in_another_unit(place: Path, task: Task) -> Version:
    def hundredfold(pipeline: Pipeline) -> None:
        pipeline[-1].coef_ = pipeline[-1].coef_ * 100
        pipeline[-1].intercept_ = pipeline[-1].intercept_ * 100

    return _version(place, task, training_rows(), estimator=_LINEAR[task], change=hundredfold)


CLASSES = (Task.BINARY, Task.MULTICLASS)
# Several classes take the same way through these as two.
TWO = (Task.BINARY, Task.REGRESSION)
ANIMALS = (
    Animal("worse than the champion", "comparison", _taught(_without_what_tells)),
    Animal("overfit", "comparison", _overfit, TWO),
    Animal("biased by a protected attribute", "fairness", _taught(_against_women), TWO),
    Animal("bad in one slice only", "slices", _taught(_wrong_in_one_place), TWO),
    Animal("brittle", "robustness", _brittle, TWO),
    Animal("schema-breaking", "schema", _takes_no_plan, TWO),
    Animal("wrong category order", "parity", _with_categories_in_another_order, TWO),
    Animal("miscalibrated", "calibration", _miscalibrated, CLASSES),
    Animal("constant", "leakage", _constant),
    Animal("leaking the target", "leakage", _leaking, beside=False),
    Animal("with an id among its features", "leakage", _knows_the_customer, TWO, beside=False),
    Animal("trained on drifted data", "drift", _of_other_customers, TWO),
    Animal("in another unit", "r2", _in_another_unit, (Task.REGRESSION,)),
)
