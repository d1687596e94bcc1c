"""What people fit in a notebook is exported as it answers there, or refused by its step before anything is logged."""

import json
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from pipelines.domain.description import Task
from pipelines.errors import NotServable, SlipwayError, UsageError
from pipelines.packaging.onnx_model import OnnxModel
from pipelines.packaging.snapshot import Snapshot, read_snapshot
from pipelines.training.fitted.version import Told, lay_out
from pipelines.training.workspace import Workspace
from tests.support.containers.needs import skip_without_boosting
from tests.support.world import notebooks

ROWS = notebooks.passengers()
FEATURES = [*notebooks.NUMBERS, *notebooks.TEXTS]
PLAIN = ["fare", "pclass"]


def laid_out(root: Path, estimator: Any, columns: list[str], y: Any = None, **told: Any) -> Snapshot:
    """Fit an estimator on passengers and lay it out; return its evaluation set."""
    truth = ROWS["survived"] if y is None else y
    estimator.fit(ROWS[columns], truth)
    words = Told(**{"model": "passengers", "task": Task.BINARY, **told})
    lay_out(Workspace(root), estimator, ROWS[columns], truth, words)
    return read_snapshot(Workspace(root).evaluation)


def difference(root: Path) -> float:
    return float(json.loads(Workspace(root).metrics.read_text())["onnx_max_abs_difference"])


@pytest.mark.parametrize("make", [notebooks.logistic, notebooks.forest, notebooks.gaps_as_they_are])
def test_a_pipeline_on_raw_rows_answers_the_same_in_onnx(tmp_path: Path, make: Callable[[], Any]) -> None:
    snapshot = laid_out(tmp_path, make(), FEATURES)
    assert difference(tmp_path) < 1e-6
    kinds = {each.name: (each.type.value, each.nullable) for each in snapshot.description.features}
    assert kinds == {
        "age": ("number", True),
        "fare": ("number", False),
        "pclass": ("integer", False),
        "sex": ("category", False),
        "port": ("category", True),
    }
    assert (snapshot.description.positive, snapshot.description.classes) == (1, (0, 1))


@pytest.mark.parametrize(
    "labels",
    [
        {0: "no", 1: "yes"},
        {0: False, 1: True},
        {0: 2, 1: 10},
        {0: 1.0, 1: 2.0},
    ],
    ids=["texts", "truths", "integers", "numbers"],
)
def test_labels_are_answered_as_what_they_are(tmp_path: Path, labels: dict[int, Any]) -> None:
    y = ROWS["survived"].map(labels)
    snapshot = laid_out(tmp_path, notebooks.logistic(), FEATURES, y)
    assert {type(each) for each in snapshot.description.classes} == {type(labels[0])}
    assert difference(tmp_path) < 1e-6
    assert OnnxModel.load(Workspace(tmp_path).onnx_model).classes == tuple(
        "true" if each is True else "false" if each is False else str(each) for each in labels.values()
    )


def test_several_classes_of_whole_numbers_keep_their_columns(tmp_path: Path) -> None:
    y = ROWS["pclass"].map({1: 2, 2: 10, 3: 100})
    snapshot = laid_out(tmp_path, RandomForestClassifier(10, random_state=0), ["fare"], y, task=Task.MULTICLASS)
    assert snapshot.description.classes == (10, 100, 2)
    assert OnnxModel.load(Workspace(tmp_path).onnx_model).classes == ("2", "10", "100")
    assert difference(tmp_path) < 1e-6


def test_a_regression_and_a_search_are_taken(tmp_path: Path) -> None:
    laid_out(tmp_path / "regression", notebooks.regression(), FEATURES, ROWS["fare"] * 3, task=Task.REGRESSION)
    assert difference(tmp_path / "regression") < 1e-6
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]})
    laid_out(tmp_path / "search", search, PLAIN)
    assert difference(tmp_path / "search") < 1e-6


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
def test_thresholds_between_values_of_float64_stay_between_them(tmp_path: Path, kind: Any) -> None:
    regresses = kind is HistGradientBoostingRegressor
    y, task = (ROWS["age"].fillna(0.0), Task.REGRESSION) if regresses else (None, Task.BINARY)
    draw = np.random.default_rng(0)
    rows = ROWS.assign(fare=draw.random(len(ROWS)), pclass=draw.random(len(ROWS)))
    truth = ROWS["survived"] if y is None else y
    estimator = kind(max_iter=60, max_leaf_nodes=31, min_samples_leaf=2).fit(rows[PLAIN], truth)
    lay_out(Workspace(tmp_path), estimator, rows[PLAIN], truth, Told("passengers", task))
    assert difference(tmp_path) < 1e-6


@pytest.mark.parametrize("name", ["lightgbm.LGBM", "xgboost.XGB", "catboost.CatBoost"])
@pytest.mark.parametrize("task", ["Classifier", "Regressor"])
def test_boosting_libraries_are_taken_as_they_are(tmp_path: Path, name: str, task: str) -> None:
    library, _, prefix = name.partition(".")
    if find_spec(library) is None or find_spec("onnxmltools") is None:
        skip_without_boosting()
    quiet: dict[str, Any] = {"catboost": {"verbose": 0, "allow_writing_files": False}, "lightgbm": {"verbose": -1}}
    kind = getattr(import_module(library), f"{prefix}{task}")
    estimator = kind(n_estimators=10, **quiet.get(library, {}))
    y = ROWS["survived"] if task == "Classifier" else ROWS["survived"] * 1.5
    laid_out(tmp_path, estimator, ["age", *PLAIN], y, task=Task.BINARY if task == "Classifier" else Task.REGRESSION)
    assert difference(tmp_path) < 1e-6


def test_a_model_of_catboost_that_was_read_from_a_file_knows_its_columns(tmp_path: Path) -> None:
    if find_spec("catboost") is None:
        skip_without_boosting()
    kind = import_module("catboost").CatBoostClassifier
    fitted = kind(iterations=5, verbose=0, allow_writing_files=False).fit(ROWS[PLAIN], ROWS["survived"])
    fitted.save_model(str(tmp_path / "model.cb"))
    read = kind().load_model(str(tmp_path / "model.cb"))
    rows = ROWS[["pclass", "age", "fare"]]
    lay_out(Workspace(tmp_path), read, rows, ROWS["survived"], Told("passengers", Task.BINARY))
    assert read_snapshot(Workspace(tmp_path).evaluation).description.columns == ("fare", "pclass")
    assert difference(tmp_path) < 1e-6


def test_columns_that_a_pipeline_drops_are_no_features(tmp_path: Path) -> None:
    snapshot = laid_out(tmp_path, notebooks.logistic(), ["ticket", "survived", *FEATURES[::-1]], ids=["ticket"])
    assert set(snapshot.description.columns) == set(FEATURES)
    assert difference(tmp_path) < 1e-6


def test_what_is_declared_adds_to_what_the_types_say(tmp_path: Path) -> None:
    snapshot = laid_out(
        tmp_path, notebooks.logistic(), FEATURES, features={"fare": {"minimum": 0}, "sex": {"nullable": True}}
    )
    known = {each.name: each for each in snapshot.description.features}
    assert (known["fare"].minimum, known["fare"].type.value) == (0.0, "number")
    assert known["sex"].nullable


def test_categories_that_the_estimator_knows_are_taken_as_well(tmp_path: Path) -> None:
    estimator = notebooks.logistic().fit(ROWS[FEATURES], ROWS["survived"])
    few = ROWS[ROWS["port"] != "Q"]
    lay_out(Workspace(tmp_path), estimator, few[FEATURES], few["survived"], Told("passengers", Task.BINARY))
    features = {each.name: each for each in read_snapshot(Workspace(tmp_path).evaluation).description.features}
    assert features["port"].categories == ("C", "Q", "S")


@pytest.mark.parametrize(
    ("estimator", "columns", "message", "advice"),
    [
        (
            make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
            PLAIN,
            r"step functiontransformer \(FunctionTransformer\) can't be exported",
            "compute what FunctionTransformer does in X itself",
        ),
        (RidgeClassifier(), PLAIN, "RidgeClassifier has no predict_proba", "CalibratedClassifierCV"),
        (StandardScaler(), PLAIN, "StandardScaler is no classifier", "give a fitted classifier"),
    ],
)
def test_what_cant_be_converted_is_refused_by_its_step(
    tmp_path: Path, estimator: Any, columns: list[str], message: str, advice: str
) -> None:
    with pytest.raises(SlipwayError, match=message) as refusal:
        laid_out(tmp_path, estimator, columns)
    assert advice in refusal.value.next


def test_a_library_that_encodes_texts_itself_is_refused_by_its_step(tmp_path: Path) -> None:
    rows = ROWS[["fare", "sex"]].assign(sex=ROWS["sex"].astype("category"))
    estimator = HistGradientBoostingClassifier(max_iter=5, categorical_features=["sex"]).fit(rows, ROWS["survived"])
    with pytest.raises(NotServable, match=r"step estimator \(HistGradientBoosting.* is given texts \(sex\)") as refusal:
        lay_out(Workspace(tmp_path), estimator, rows, ROWS["survived"], Told("passengers", Task.BINARY))
    assert "ColumnTransformer" in refusal.value.next


class Otherwise(LogisticRegression):
    """Answers otherwise than its export, which is that of the class it is made from."""

    def predict_proba(self, rows: Any) -> Any:
        return super().predict_proba(rows) * 0.9 + 0.05


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
    from skl2onnx.operator_converters.linear_classifier import convert_sklearn_linear_classifier

    update_registered_converter(
        Otherwise,
        "TestsOtherwise",
        calculate_linear_classifier_output_shapes,
        convert_sklearn_linear_classifier,
        options={"zipmap": [True, False], "nocl": [True, False], "raw_scores": [True, False]},
    )
    with pytest.raises(
        NotServable, match=r"Otherwise: the ONNX export answers 0 of 240 .* differs by up to"
    ) as refusal:
        laid_out(tmp_path, Otherwise(), PLAIN)
    assert "float32" in refusal.value.next


@pytest.mark.parametrize(
    ("changes", "told", "message"),
    [
        ({"fare": pd.Timestamp("2020-01-01")}, {}, "column 'fare' holds times"),
        ({"fare": 1 + 2j}, {}, "column 'fare' holds complex"),
        ({"fare": np.inf}, {}, "beyond float32"),
        ({"pclass": range(20_000_000, 20_000_000 + len(ROWS))}, {}, "that float32 merges"),
        ({"pclass": [f"text {number}" for number in range(len(ROWS))]}, {}, "240 different texts"),
        ({}, {"features": {"fare": {"least": 0}}}, "'fare' is declared as"),
        ({}, {"features": {"fee": {"minimum": 0}}}, "no feature is called 'fee'"),
        ({}, {"protected": ["fee"]}, "no feature is called 'fee'"),
        ({}, {"positive": 2}, "never answers 2"),
        ({}, {"ids": ["fare"]}, "takes 'fare', which are ids"),
        ({}, {"ids": ["ticket"]}, "X has no column 'ticket', which ids names"),
        ({}, {"task": Task.MULTICLASS, "positive": 1}, "has no positive label"),
        ({}, {"task": Task.MULTICLASS}, "there are 2 labels .0, 1., and task multiclass needs more than two"),
        ({}, {"task": Task.REGRESSION}, "is no regressor"),
        ({}, {"features": {"fare": {"minimum": 1e4}}}, "'fare': .* in row 0 is below the declared minimum 10000"),
        ({}, {"features": {"pclass": {"maximum": 2}}}, "'pclass': '3' in row .* is above the declared maximum 2"),
        ({}, {"features": {"pclass": {"type": "boolean"}}}, "'pclass': '[23]' in row .* is neither true nor false"),
        ({}, {"features": {"pclass": {"type": "text", "maximum_length": 9}}}, "is no text, which a text is"),
        ({"pclass": "one"}, {"features": {"pclass": {"type": "integer"}}}, "holds what is no number: .*'one'"),
        ({"pclass": "one"}, {"features": {"pclass": {"type": "category", "categories": ["two"]}}}, "is not one of its"),
        ({"pclass": "one"}, {"features": {"pclass": {"type": "text", "maximum_length": 2}}}, "is longer than 2"),
        ({"pclass": [Decimal(1)] * len(ROWS)}, {}, "holds Decimal, which no feature"),
        ({}, {"features": ["fare"]}, "and not what model.yaml says of each feature"),
        ({}, {"features": {"fare": "number"}}, "and not what model.yaml says of each feature"),
        ({}, {"model": "a/b"}, "is not a name"),
    ],
)
def test_rows_and_words_without_a_meaning_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: dict[str, Any], message: str
) -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS[PLAIN], ROWS["survived"])
    words = Told(**{"model": "passengers", "task": Task.BINARY, **told})
    with pytest.raises(UsageError, match=message):
        lay_out(Workspace(tmp_path), estimator, ROWS[PLAIN].assign(**changes), ROWS["survived"], words)
    assert not Workspace(tmp_path).evaluation.exists()


@pytest.mark.parametrize(
    ("rows", "truth", "message"),
    [
        (ROWS[PLAIN].to_numpy(), ROWS["survived"], "of type ndarray"),
        (ROWS[PLAIN].set_axis([0, 1], axis=1), ROWS["survived"], "no request can name: 0, 1"),
        (ROWS[PLAIN], ROWS["survived"][:5], "has 5 values for 240 rows"),
        (ROWS[PLAIN], ROWS["survived"].where(ROWS["survived"] == 1), "missing values"),
        (ROWS[["fare"]], ROWS["survived"], "was fitted on 'fare', 'pclass'"),
        (ROWS[PLAIN][:5], ROWS["survived"][:5], "5 rows are too few"),
        (ROWS[PLAIN], ROWS["survived"] + 1, "y holds '2', and the estimator answers"),
        (ROWS[PLAIN], ROWS["survived"] * 0, "no evaluation row has survived '1'"),
    ],
)
def test_rows_that_do_not_fit_the_estimator_are_refused(tmp_path: Path, rows: Any, truth: Any, message: str) -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS[PLAIN], ROWS["survived"])
    with pytest.raises(UsageError, match=message):
        lay_out(Workspace(tmp_path), estimator, rows, truth, Told("passengers", Task.BINARY))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RandomForestClassifier(5, max_depth=3, random_state=0),
            "with 'fare' missing, the ONNX export answers",
        ),
        (lambda: make_pipeline(SimpleImputer(), LogisticRegression()), None),
        (lambda: HistGradientBoostingClassifier(max_iter=5), None),
    ],
    ids=["forest", "filled", "boosting"],
)
def test_gaps_that_only_training_has_are_answered_alike_or_refused(
    tmp_path: Path, make: Callable[[], Any], message: str | None
) -> None:
    train = ROWS[PLAIN].assign(fare=ROWS["fare"].where(ROWS.index % 3 > 0))
    estimator, words = make().fit(train, ROWS["survived"]), Told("passengers", Task.BINARY)
    given = (Workspace(tmp_path), estimator, ROWS[PLAIN].astype("float32"), ROWS["survived"], words)
    if message is None:
        lay_out(*given, train=(train, ROWS["survived"]))
        assert read_snapshot(Workspace(tmp_path).evaluation).description.features[0].nullable
        return
    with pytest.raises(NotServable, match=message) as refusal:
        lay_out(*given, train=(train, ROWS["survived"]))
    assert "SimpleImputer" in refusal.value.next


def test_a_feature_may_not_be_missing_where_nothing_takes_that(tmp_path: Path) -> None:
    with pytest.raises(NotServable, match=r"with 'pclass' missing, it can't answer .* NaN"):
        laid_out(tmp_path, LogisticRegression(), PLAIN, features={"pclass": {"nullable": True}})


@pytest.mark.parametrize(
    ("estimator", "task", "message"),
    [
        (LogisticRegression(), Task.BINARY, "LogisticRegression is not fitted"),
        (make_pipeline(StandardScaler(), Ridge()), Task.REGRESSION, "Pipeline is not fitted"),
        (LogisticRegression, Task.BINARY, "the class LogisticRegression is no classifier"),
        (object(), Task.BINARY, "object is no classifier"),
    ],
)
def test_what_is_no_fitted_estimator_is_refused(tmp_path: Path, estimator: Any, task: Task, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lay_out(Workspace(tmp_path), estimator, ROWS[PLAIN], ROWS["survived"], Told("passengers", task))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (ROWS["fare"].where(ROWS["fare"] > 10, np.inf), "beyond float32"),
        (ROWS["fare"] * 1e300, "beyond float32"),
        (pd.to_datetime("2025-01-01") + pd.to_timedelta(ROWS["fare"], unit="D"), "holds what is no number"),
        (ROWS["sex"], "holds what is no number"),
    ],
)
def test_a_regression_is_judged_by_numbers_alone(tmp_path: Path, truth: Any, message: str) -> None:
    estimator = Ridge().fit(ROWS[PLAIN], ROWS["fare"])
    with pytest.raises(UsageError, match=message):
        lay_out(Workspace(tmp_path), estimator, ROWS[PLAIN], truth, Told("passengers", Task.REGRESSION))


def test_labels_that_are_written_alike_are_those_of_the_estimator(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(ROWS[PLAIN], ROWS["survived"])
    lay_out(Workspace(tmp_path), estimator, ROWS[PLAIN], ROWS["survived"].astype(str), Told("x", Task.BINARY))
    description = read_snapshot(Workspace(tmp_path).evaluation).description
    assert (description.positive, description.classes) == (1, (0, 1))


def test_training_rows_are_kept_and_may_not_evaluate(tmp_path: Path) -> None:
    estimator = notebooks.logistic().fit(ROWS[["ticket", *FEATURES]], ROWS["survived"])
    words = Told("passengers", Task.BINARY, ids=["ticket"])
    columns, halves = ["ticket", *FEATURES], (ROWS[:120], ROWS[120:])
    given = [(half[columns], half["survived"]) for half in halves]
    lay_out(Workspace(tmp_path), estimator, *given[1], words, train=given[0])
    assert len(read_snapshot(Workspace(tmp_path).train).frame) == 120
    with pytest.raises(UsageError, match="120 of 120 evaluation rows are among those of train, by ticket"):
        lay_out(Workspace(tmp_path), estimator, *given[1], words, train=given[1])
