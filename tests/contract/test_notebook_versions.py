"""From a notebook over a real MLflow to a bundle: what log_model registers is served as what `make candidate` does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import slipway
from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.errors import NotServable, RegistryUnavailable, UsageError
from tests.support.world import notebooks
from tests.support.world.packaged import package

pytestmark = [
    pytest.mark.timeout(240),
    # MLflow warns of its own code as it is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
]

ROOT = Path(__file__).parents[2]
ROWS = notebooks.passengers()
FEATURES = [*notebooks.NUMBERS, *notebooks.TEXTS]
PLAIN = ["fare", "pclass"]
# What a notebook may have before it calls log_model, and what it prints of its modules afterwards.
NOTEBOOK = """
import json, sys
from tests.support.world import notebooks

rows = notebooks.passengers()
estimator = notebooks.logistic().fit(rows.drop(columns=["survived"]), rows["survived"])

import slipway

logged = slipway.log_model(
    estimator, rows.drop(columns=["survived"]), rows["survived"],
    task="binary", name="notebook-passengers", ids=["ticket"], protected=["sex"], source=sys.argv[1],
)
held = [name for name in ("boto3", "dbos", "dvc", "httpx", "typer") if name in sys.modules]
print(json.dumps({"version": logged.version, "next": logged.next, "uri": logged.uri, "held": held}))
"""


@pytest.fixture
def registry(mlflow_uri: str) -> MlflowModelRegistry:
    return MlflowModelRegistry(mlflow_uri)


@pytest.fixture(autouse=True)
def tracking(mlflow_uri: str) -> Any:
    mlflow.set_tracking_uri(mlflow_uri)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri("http://127.0.0.1:9")


def log(estimator: Any, columns: list[str], **told: Any) -> slipway.LoggedVersion:
    fitted = estimator.fit(ROWS[columns], ROWS["survived"])
    return slipway.log_model(fitted, ROWS[columns], ROWS["survived"], **{"task": "binary", **told})


def test_a_notebook_registers_what_packaging_takes(
    registry: MlflowModelRegistry, mlflow_uri: str, tmp_path: Path
) -> None:
    source = tmp_path / "passengers.csv"
    ROWS.to_csv(source)
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(source)],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": mlflow_uri},
        capture_output=True,
        text=True,
        timeout=200.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    version = registry.newest("notebook-passengers")
    assert told == {
        "version": version.version,
        "uri": f"models:/notebook-passengers/{version.version}",
        "next": f'evaluate it into staging: "slipway deploy-staging --version {version.version}"'
        f" (make deploy-staging VERSION={version.version})",
        "held": [],
    }
    packaged = package(registry, tmp_path, version)
    assert packaged.own_evaluation and packaged.predictions
    assert [feature["name"] for feature in packaged.body["features"]] == FEATURES
    assert packaged.body["output"] == {"target": "survived", "classes": [0, 1], "positive": 1}
    tags = registry.run_tags(version.run_id)
    assert packaged.body["provenance"]["git_commit"] == tags["mlflow.source.git.commit"]
    assert packaged.body["provenance"]["datasets"]["evaluation"] == tags["slipway.dataset.evaluation"]
    assert tags["slipway.dataset.source"].startswith("sha256:")
    assert "scikit-learn==" in tags["slipway.packages"]


def test_the_active_run_is_used_and_logs_one_version_only(registry: MlflowModelRegistry) -> None:
    mlflow.set_experiment("a-persons-own")
    with mlflow.start_run() as run:
        mlflow.log_param("mine", 1)
        logged = log(notebooks.logistic(), FEATURES, name="run-passengers")
        assert mlflow.active_run() is not None
        with pytest.raises(UsageError, match="has logged evaluation rows already"):
            log(notebooks.logistic(), FEATURES, name="run-passengers")
    assert logged.run_id == run.info.run_id
    assert registry.newest("run-passengers").version == logged.version == "1"
    data = MlflowClient().get_run(run.info.run_id).data
    assert data.params["mine"] == "1" and data.params["estimator.path"].endswith("LogisticRegression")
    assert data.metrics["accuracy"] > 0.5


def test_a_run_is_named_by_itself_or_by_its_id(registry: MlflowModelRegistry, tmp_path: Path) -> None:
    experiment = MlflowClient().create_experiment("named-runs")
    for run in (MlflowClient().create_run(experiment), MlflowClient().create_run(experiment).info.run_id):
        logged = log(notebooks.forest(), FEATURES, name="named-passengers", run=run)
        assert logged.run_id == (run if isinstance(run, str) else run.info.run_id)
        assert package(registry, tmp_path / logged.version, registry.newest("named-passengers")).own_evaluation


def test_what_cant_be_converted_is_told_with_its_remedy_and_registers_nothing() -> None:
    before = len(MlflowClient().search_experiments())
    with pytest.raises(NotServable, match="step functiontransformer") as refusal:
        log(make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), PLAIN, name="never-passengers")
    # What Python shows below the traceback.
    assert refusal.value.__notes__ == [f"next: {refusal.value.next}"]
    assert len(MlflowClient().search_experiments()) == before
    assert not MlflowClient().search_registered_models("name = 'never-passengers'")


def test_an_absent_registry_is_told_at_once() -> None:
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        log(LogisticRegression(), PLAIN, name="passengers", tracking_uri="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="which is no server") as refusal:
        log(LogisticRegression(), PLAIN, name="passengers", tracking_uri="sqlite:///mlflow.db")
    assert "MLFLOW_TRACKING_URI" in refusal.value.next


def test_a_plain_onnx_version_is_taken_with_rows_of_its_run(registry: MlflowModelRegistry, tmp_path: Path) -> None:
    """One float tensor [N, n], as most exports have it; its columns are named by the signature."""
    rows = ROWS[PLAIN].astype("float64")
    fitted = LogisticRegression(max_iter=1000).fit(rows.to_numpy(), ROWS["survived"])
    proto = convert_sklearn(fitted, initial_types=[("X", FloatTensorType([None, 2]))], options={"zipmap": False})
    mlflow.set_experiment("plain-onnx")
    with mlflow.start_run():
        slipway.log_evaluation(rows, ROWS["survived"], task="binary", name="plain-passengers")
        info = mlflow.onnx.log_model(
            proto,
            name="onnx",
            signature=infer_signature(rows, fitted.predict(rows.to_numpy())),
            pip_requirements=["onnxruntime"],
        )
    mlflow.register_model(info.model_uri, "plain-passengers")
    packaged = package(registry, tmp_path, registry.newest("plain-passengers"))
    assert packaged.own_evaluation
    assert packaged.body["onnx"]["inputs"] == [{"name": "X", "dtype": "float32", "features": PLAIN}]
    assert packaged.body["output"]["classes"] == [0, 1]
