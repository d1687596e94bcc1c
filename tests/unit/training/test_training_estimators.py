"""What people train: estimators by name, of others, or of a module of their own; what can not serve is refused."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pytest import MonkeyPatch

from pipelines.developer.reference import REFERENCE
from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import OnnxModel, ServedModel
from pipelines.packaging.snapshot import read_snapshot, write_snapshot
from pipelines.training.prepare import prepare
from pipelines.training.score import score
from pipelines.training.train import load_trained, train
from pipelines.training.workspace import Workspace, run_stage
from tests.support.containers.needs import skip_without_boosting
from tests.support.world import trained
from tests.support.world.estimator_table import (
    BOOSTING,
    COMPOSED,
    FILE,
    FOREST,
    LOGISTIC,
    attempt,
    cases,
    estimator,
    grounds,
    has_boosting,
    row,
)

ROWS = {line.split(" | ")[0] + " |": line for line in (REFERENCE / FILE).read_text().splitlines() if line[:3] == "| `"}
SEARCH = "`GridSearchCV` of `RandomForestClassifier`"
COLUMNS = "`Pipeline` of `ColumnTransformer` and `LogisticRegression`, `encoded: false`"
# The others are tried by `make reference`.
SAMPLE = (
    "`LogisticRegression`",
    "`VotingClassifier`, `voting: soft`",
    "`RandomizedSearchCV` of `LogisticRegression`",
    COLUMNS,
    "`CalibratedClassifierCV` of `LinearSVC`",
    "`VotingClassifier`",
    "`LinearDiscriminantAnalysis`",
    "`RadiusNeighborsClassifier`",
    "`TunedThresholdClassifierCV`",
)
MAKER = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def make_estimator(features, C=1.0):
    texts = [feature.name for feature in features if feature.type == "category"]
    columns = make_column_transformer((OneHotEncoder(), texts), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression(C=C, max_iter=1000))
"""

CLASS_IN_PLACE = """
from sklearn.linear_model import LogisticRegression

def make_estimator(features):
    return LogisticRegression
"""
FAILS_IN_FIT = """
from sklearn.linear_model import LogisticRegression

class Weighted(LogisticRegression):
    def fit(self, X, y):
        return super().fit(X, y, {}["weight"])

def make_estimator(features):
    return Weighted()
"""


@pytest.fixture(scope="module")
def trees() -> Iterator[tuple[Workspace, Workspace]]:
    with grounds() as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: MonkeyPatch) -> Workspace:
    """A working tree whose modules are found only as long as the test runs."""
    monkeypatch.setattr("sys.path", list(sys.path))
    return trained.workspace(tmp_path)


def test_the_table_has_every_estimator_and_no_other() -> None:
    assert list(ROWS) == [f"| {name} |" for name in cases()]


@pytest.mark.parametrize("name", SAMPLE)
def test_an_estimator_does_what_the_table_says(trees: tuple[Workspace, Workspace], name: str) -> None:
    tried = (attempt(trees[0], cases()[name]), attempt(trees[1], cases()[name]))
    assert ROWS[f"| {name} |"] == row(name, tried), 'run "make reference", and commit what it writes'


@pytest.mark.parametrize("name", BOOSTING)
def test_a_boosting_library_does_what_the_table_says(trees: tuple[Workspace, Workspace], name: str) -> None:
    if not has_boosting():
        skip_without_boosting()
    tried = (attempt(trees[0], BOOSTING[name]), attempt(trees[1], BOOSTING[name]))
    assert ROWS[f"| {name} |"] == row(name, tried), 'run "make reference", and commit what it writes'


@pytest.mark.parametrize(
    ("chosen", "message", "advice"),
    [
        (estimator(LOGISTIC["path"], C=-1), "The 'C' parameter of LogisticRegression must be", "estimator.parameters"),
        (estimator("sklearn.svm.SVC"), "SVC has no predict_proba", "CalibratedClassifierCV, as its estimator"),
        (estimator("sklearn.dummy.DummyClassifier"), "no converter for DummyClassifier", "lists what works"),
        (
            estimator("sklearn.ensemble.BaggingClassifier", estimator=estimator("sklearn.dummy.DummyClassifier")),
            "no converter for DummyClassifier",
            "choose another",
        ),
        (
            estimator("sklearn.ensemble.StackingClassifier", estimators=[["a", estimator("sklearn.tree.Nothing")]]),
            "estimator.parameters.estimators.0.1 sklearn.tree.Nothing does not exist",
            "import path",
        ),
        (
            estimator("sklearn.calibration.CalibratedClassifierCV", estimator=LOGISTIC, method="isotonic"),
            "CalibratedClassifierCV, LogisticRegression: the ONNX export answers",
            "method: sigmoid",
        ),
        ({**LOGISTIC, "encoded": False}, "could not convert string to float: ", "categories as text"),
        (
            {**COMPOSED[COLUMNS], "encoded": True},
            "has a ColumnTransformer, but is given encoded features",
            "encoded: false",
        ),
        (estimator("notinstalled.Classifier"), "No module named 'notinstalled'", "import path"),
    ],
)
def test_what_cannot_serve_is_refused_with_the_step_and_what_would_work(
    trees: tuple[Workspace, Workspace], chosen: dict[str, Any], message: str, advice: str
) -> None:
    tried = attempt(trees[0], chosen)
    assert message in tried.refused
    assert advice in tried.advice


def test_a_refusal_of_a_stage_ends_with_2_and_no_traceback(
    trees: tuple[Workspace, Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(trees[0], estimator(LOGISTIC["path"], C=-1))
    assert run_stage(train, ["--root", str(trees[0].root)]) == 2
    told = capsys.readouterr().err
    assert "can't be fitted: The 'C' parameter" in told and "Traceback" not in told


def test_scoring_before_training_says_what_to_run(tree: Workspace) -> None:
    prepare(tree)
    with pytest.raises(UsageError, match=r"not trained yet: model\.skops, model\.onnx missing"):
        score(tree)


def test_a_library_that_is_not_installed_is_refused_with_the_command(
    trees: tuple[Workspace, Workspace], monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    tried = attempt(trees[0], estimator("lightgbm.LGBMClassifier"))
    assert tried.refused == "lightgbm is not installed"
    assert tried.advice == 'run "make setup EXTRA=boosting"'


def test_the_best_model_of_a_search_is_what_is_kept_and_seeds_reach_every_part(
    trees: tuple[Workspace, Workspace],
) -> None:
    assert attempt(trees[0], COMPOSED[SEARCH]).difference is not None
    forest = load_trained(trees[0].sklearn_model.read_bytes()).steps[-1][1]
    assert type(forest).__name__ == "RandomForestClassifier"
    assert forest.random_state == 3
    stack = estimator("sklearn.ensemble.StackingClassifier", estimators=[["a", FOREST], ["b", LOGISTIC]])
    assert attempt(trees[0], stack).difference is not None
    fitted = load_trained(trees[0].sklearn_model.read_bytes()).steps[-1][1]
    assert [part.random_state for part in fitted.estimators_] == [3, 3]


def choose(tree: Workspace, **chosen: Any) -> None:
    body = yaml.safe_load(tree.model_file.read_text())
    tree.model_file.write_text(yaml.safe_dump({**body, "estimator": chosen}, sort_keys=False))


def test_a_module_of_the_tree_makes_the_estimator_from_the_features(tree: Workspace) -> None:
    (tree.root / "maker_of_lines.py").write_text(MAKER)
    choose(tree, module="maker_of_lines", parameters={"C": 0.5}, encoded=False)
    for stage in (prepare, train, score):
        stage(tree)
    evaluation = read_snapshot(tree.evaluation)
    model = OnnxModel.load(tree.onnx_model)
    scores = ServedModel.wired(model, evaluation.description.features).score(evaluation.features)
    assert list(pd.read_parquet(tree.predictions)["label"]) == list(scores.labels)
    assert load_trained(tree.sklearn_model.read_bytes()).steps[-1][1].steps[-1][1].C == 0.5
    assert json.loads(tree.metrics.read_text())["onnx_max_abs_difference"] <= 1e-5


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("maker_missing", None, "No module named 'maker_missing'"),
        ("maker_empty", "", "no attribute 'make_estimator'"),
        ("maker_syntax", "def make_estimator(:\n", "invalid syntax"),
        ("maker_fails", "def make_estimator(features):\n    return features.nothing\n", "in maker_fails.py line 2"),
        ("maker_ends", "raise SystemExit(0)\n", "gives no estimator: 0 in maker_ends.py line 1"),
        ("maker_none", "def make_estimator(features):\n    return None\n", "is no classifier, which task"),
        ("maker_class", CLASS_IN_PLACE, "returns the class LogisticRegression, and no estimator"),
        (
            "maker_other",
            "class Own:\n    def fit(self, X, y): ...\n\ndef make_estimator(features):\n    return Own()\n",
            "is no classifier",
        ),
        ("maker_breaks", FAILS_IN_FIT, "maker_breaks can't be fitted: there is no 'weight' in maker_breaks.py line 6"),
    ],
)
def test_a_module_that_makes_no_estimator_is_refused(
    tree: Workspace, name: str, code: str | None, message: str
) -> None:
    if code is not None:
        (tree.root / f"{name}.py").write_text(code)
    choose(tree, module=name)
    prepare(tree)
    with pytest.raises(UsageError, match=message):
        train(tree)


def test_an_estimator_of_ones_own_answers_gaps_that_no_row_has_as_its_export(tree: Workspace) -> None:
    (tree.root / "maker_gaps.py").write_text(
        "from sklearn.tree import DecisionTreeClassifier\n\n"
        "def make_estimator(features):\n    return DecisionTreeClassifier(max_depth=4, random_state=0)\n"
    )
    frame = trained.plants()[["tag", "height", "outcome"]]
    frame.to_csv(tree.root / "raw/plants.csv", index=False)
    features = {"height": {"type": "number", "nullable": True}}
    choose(tree, module="maker_gaps", encoded=False)
    described = yaml.safe_load(tree.model_file.read_text())
    tree.model_file.write_text(yaml.safe_dump({**described, "features": features, "protected": []}))
    prepare(tree)
    train(tree)
    with pytest.raises(NotServable, match="DecisionTreeClassifier: with 'height' missing, the ONNX export answers"):
        score(tree)


@pytest.mark.parametrize(
    ("deps", "watched"), [(["maker_watched.py"], True), (["data/snapshots/train.parquet"], False), (None, True)]
)
def test_a_module_is_a_dependency_of_the_stage_that_runs_it(
    tree: Workspace, deps: list[str] | None, watched: bool
) -> None:
    (tree.root / "maker_watched.py").write_text(MAKER)
    if deps is not None:
        (tree.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": "true", "deps": deps}}}))
    choose(tree, module="maker_watched", encoded=False)
    prepare(tree)
    if watched:
        train(tree)
        return
    with pytest.raises(UsageError, match=r"does not name maker_watched\.py as a dependency of stage train") as refusal:
        train(tree)
    assert "add maker_watched.py" in refusal.value.next


def test_a_label_without_a_training_row_is_refused_by_name(tree: Workspace) -> None:
    prepare(tree)
    rows = read_snapshot(tree.train)
    write_snapshot(tree.train, rows.frame[rows.target != "green"], rows.description)
    with pytest.raises(UsageError, match="no training row has outcome 'green'"):
        train(tree)
