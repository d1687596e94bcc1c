"""docs/reference/estimators.md: each estimator trained, exported and compared on small sets of two and of three labels.

scikit-learn itself says which classifiers there are, so none is left out.
"""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.utils import all_estimators

from pipelines.developer.reference import REFERENCE
from pipelines.errors import UsageError
from pipelines.training.prepare import prepare
from pipelines.training.score import score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace
from tests.support.world import trained

FILE = "estimators.md"
_HEAD = """# Estimators that work

What `estimator` of `model.yaml` may be. `make reference` makes this table: it trains each on a small set with two
labels and on one with three, exports it, and compares the answers of the two forms. "yes" means that no row's
P(positive) differs by more than 1e-5, and no label. What is refused here is refused in training, before anything is
registered.

Those without parameters have their own defaults, except that large ones were kept small. The rows from LightGBM on need
`make setup EXTRA=boosting`.

| estimator | two labels | three labels | what would work |
|---|---|---|---|
"""


def estimator(path: str, **parameters: Any) -> dict[str, Any]:
    """Return an estimator as model.yaml has it."""
    return {"path": path, "parameters": parameters}


LOGISTIC = estimator("sklearn.linear_model.LogisticRegression")
FOREST = estimator("sklearn.ensemble.RandomForestClassifier", n_estimators=10)
_NEEDED = {
    "ClassifierChain": {"estimator": LOGISTIC},
    "ExtraTreesClassifier": {"n_estimators": 10},
    "FixedThresholdClassifier": {"estimator": LOGISTIC},
    "GradientBoostingClassifier": {"n_estimators": 10},
    "HistGradientBoostingClassifier": {"max_iter": 10},
    "MLPClassifier": {"hidden_layer_sizes": [5], "max_iter": 50},
    "MultiOutputClassifier": {"estimator": LOGISTIC},
    "OneVsOneClassifier": {"estimator": LOGISTIC},
    "OneVsRestClassifier": {"estimator": LOGISTIC},
    "OutputCodeClassifier": {"estimator": LOGISTIC},
    "RandomForestClassifier": {"n_estimators": 10},
    "SelfTrainingClassifier": {"estimator": LOGISTIC},
    "StackingClassifier": {"estimators": [["trees", FOREST], ["line", LOGISTIC]]},
    "TunedThresholdClassifierCV": {"estimator": LOGISTIC},
    "VotingClassifier": {"estimators": [["trees", FOREST], ["line", LOGISTIC]]},
}
_CALIBRATED = "sklearn.calibration.CalibratedClassifierCV"
_PIPELINE = "sklearn.pipeline.Pipeline"
_COLUMNS = estimator(
    "sklearn.compose.ColumnTransformer",
    transformers=[
        ["numbers", estimator("sklearn.preprocessing.StandardScaler"), ["height", "age"]],
        ["texts", estimator("sklearn.preprocessing.OneHotEncoder", handle_unknown="ignore"), ["soil"]],
    ],
    remainder="passthrough",
)
COMPOSED = {
    "`SGDClassifier`, `loss: log_loss`": estimator("sklearn.linear_model.SGDClassifier", loss="log_loss"),
    "`QuadraticDiscriminantAnalysis`, `reg_param: 0.1`": estimator(
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis", reg_param=0.1
    ),
    "`VotingClassifier`, `voting: soft`": estimator(
        "sklearn.ensemble.VotingClassifier", **_NEEDED["VotingClassifier"], voting="soft"
    ),
    "`CalibratedClassifierCV` of `LinearSVC`": estimator(_CALIBRATED, estimator=estimator("sklearn.svm.LinearSVC")),
    "`CalibratedClassifierCV` of `SVC`, `ensemble: false`": estimator(
        _CALIBRATED, estimator=estimator("sklearn.svm.SVC"), ensemble=False
    ),
    "`CalibratedClassifierCV` of `RidgeClassifier`": estimator(
        _CALIBRATED, estimator=estimator("sklearn.linear_model.RidgeClassifier")
    ),
    "`CalibratedClassifierCV`, `method: isotonic`": estimator(_CALIBRATED, estimator=LOGISTIC, method="isotonic"),
    "`BaggingClassifier` of `LogisticRegression`": estimator("sklearn.ensemble.BaggingClassifier", estimator=LOGISTIC),
    "`GridSearchCV` of `RandomForestClassifier`": estimator(
        "sklearn.model_selection.GridSearchCV", estimator=FOREST, param_grid={"max_depth": [2, 4]}, cv=2
    ),
    "`RandomizedSearchCV` of `LogisticRegression`": estimator(
        "sklearn.model_selection.RandomizedSearchCV",
        estimator=LOGISTIC,
        param_distributions={"C": estimator("scipy.stats.loguniform", a=0.1, b=10.0)},
        n_iter=2,
        cv=2,
    ),
    "`Pipeline` of `MinMaxScaler` and `MultinomialNB`": estimator(
        _PIPELINE,
        steps=[
            ["scaled", estimator("sklearn.preprocessing.MinMaxScaler")],
            ["naive", estimator("sklearn.naive_bayes.MultinomialNB")],
        ],
    ),
    "`Pipeline` of `ColumnTransformer` and `LogisticRegression`, `encoded: false`": {
        **estimator(_PIPELINE, steps=[["columns", _COLUMNS], ["line", LOGISTIC]]),
        "encoded": False,
    },
}
BOOSTING = {
    "`lightgbm.LGBMClassifier`": estimator("lightgbm.LGBMClassifier", n_estimators=10, verbose=-1),
    "`xgboost.XGBClassifier`": estimator("xgboost.XGBClassifier", n_estimators=10),
    "`xgboost.XGBRFClassifier`": estimator("xgboost.XGBRFClassifier", n_estimators=10),
    "`catboost.CatBoostClassifier`": estimator(
        "catboost.CatBoostClassifier", iterations=10, verbose=0, allow_writing_files=False
    ),
    "`StackingClassifier` of LightGBM and XGBoost": estimator(
        "sklearn.ensemble.StackingClassifier",
        estimators=[
            ["light", estimator("lightgbm.LGBMClassifier", n_estimators=5, verbose=-1)],
            ["extreme", estimator("xgboost.XGBClassifier", n_estimators=5)],
        ],
    ),
}


def cases() -> dict[str, dict[str, Any]]:
    """Return every row's estimator, as model.yaml has it."""
    singles = {}
    for name, kind in all_estimators("classifier"):
        room = kind.__module__.split(".")[1]
        singles[f"`{name}`"] = estimator(f"sklearn.{room}.{name}", **_NEEDED.get(name, {}))
    return {**singles, **COMPOSED, **BOOSTING}


@dataclass(frozen=True)
class Tried:
    """What came of an estimator: its largest difference, or why it was refused and what would work."""

    difference: float | None = None
    refused: str = ""
    advice: str = ""

    @property
    def cell(self) -> str:
        """What the table says; how far the two forms are apart within the tolerance depends on the machine."""
        return "refused" if self.difference is None else "yes"


@contextlib.contextmanager
def grounds() -> Iterator[tuple[Workspace, Workspace]]:
    """Yield two prepared working trees, of two and of three labels."""
    with tempfile.TemporaryDirectory() as folder:
        frame = trained.plants(300)
        third = frame.assign(outcome=np.where(pd.to_numeric(frame["height"]) < 35.0, "dead", frame["outcome"]))
        made = [trained.workspace(Path(folder) / str(number), each) for number, each in enumerate((frame, third))]
        with _quiet():
            for each in made:
                prepare(each)
        yield made[0], made[1]


def attempt(workspace: Workspace, chosen: dict[str, Any]) -> Tried:
    """Train, export and compare in a prepared tree."""
    body = yaml.safe_load(workspace.model_file.read_text(encoding="utf-8"))
    workspace.model_file.write_text(yaml.safe_dump({**body, "estimator": chosen}), encoding="utf-8")
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        try:
            train(workspace)
            score(workspace)
        except UsageError as refusal:
            return Tried(refused=refusal.message, advice=refusal.next)
    return Tried(json.loads(workspace.metrics.read_text(encoding="utf-8"))["onnx_max_abs_difference"])


def row(name: str, tried: tuple[Tried, Tried]) -> str:
    """Return a line of the table."""
    advice = next((each.advice.partition("; docs/")[0] for each in tried if each.advice), "")
    return f"| {name} | {tried[0].cell} | {tried[1].cell} | {advice} |"


def describe_estimators() -> str:
    """Return the page; a row whose library is not installed stays as it is."""
    written = (REFERENCE / FILE).read_text(encoding="utf-8").splitlines() if (REFERENCE / FILE).exists() else []
    rows = []
    with grounds() as (two, three):
        for name, chosen in cases().items():
            if name in BOOSTING and not has_boosting():
                rows += [line for line in written if line.startswith(f"| {name} |")]
            else:
                rows.append(row(name, (attempt(two, chosen), attempt(three, chosen))))
    return _HEAD + "\n".join(rows) + "\n"


def _quiet() -> contextlib.redirect_stderr[io.StringIO]:
    return contextlib.redirect_stderr(io.StringIO())


def has_boosting() -> bool:
    """Whether the optional libraries are installed."""
    return all(find_spec(name) for name in ("catboost", "lightgbm", "onnxmltools", "xgboost"))
