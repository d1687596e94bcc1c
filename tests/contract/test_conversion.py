"""A version that somebody logged with MLflow alone: how it is refused, and how a job makes one of it that serves."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import slipway
from pipelines.adapters.jobs.files import lay_out
from pipelines.adapters.mlflow.conversion import carry_out
from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.training_run import register_converted
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, SlipwayError, TargetUnavailable, UsageError
from pipelines.operator.model_versions import check_version, convert_files, convert_version
from pipelines.ports import JobBounds
from pipelines.settings.settings import Settings
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world import notebooks
from tests.support.world.packaged import package

pytestmark = [
    pytest.mark.timeout(300),
    # MLflow warns of its own code as it is imported, and of pickles.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
    pytest.mark.filterwarnings("ignore:.*integer column"),
]

ROWS = notebooks.passengers()
FEATURES = [*notebooks.NUMBERS, *notebooks.TEXTS]
MODEL = "converted-passengers"


@pytest.fixture(autouse=True)
def tracking(mlflow_uri: str) -> Any:
    mlflow.set_tracking_uri(mlflow_uri)
    yield
    mlflow.set_tracking_uri("http://127.0.0.1:9")


@pytest.fixture
def registry(mlflow_uri: str) -> MlflowModelRegistry:
    return MlflowModelRegistry(mlflow_uri)


@pytest.fixture(scope="module")
def servable(mlflow_uri: str) -> slipway.LoggedVersion:
    """A version that brings evaluation rows, and is in production."""
    fitted = notebooks.logistic().fit(ROWS[FEATURES], ROWS["survived"])
    logged = slipway.log_model(
        fitted, ROWS[FEATURES], ROWS["survived"], task="binary", name=MODEL, tracking_uri=mlflow_uri
    )
    MlflowClient(mlflow_uri).set_registered_model_alias(MODEL, "production", logged.version)
    return logged


def plain(
    registry: MlflowModelRegistry, estimator: Any, columns: list[str] = FEATURES, **told: Any
) -> RegisteredVersion:
    """Fit an estimator and register it as most notebooks do."""
    fitted = estimator.fit(ROWS[columns], ROWS["survived"])
    mlflow.set_experiment("plain")
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            fitted,
            name="model",
            signature=infer_signature(ROWS[columns], fitted.predict(ROWS[columns])),
            **{"serialization_format": "cloudpickle", "pip_requirements": ["scikit-learn==1.9.1"], **told},
        )
    made = mlflow.register_model(info.model_uri, MODEL)
    return registry.version(MODEL, str(made.version))


class Unconfined:
    """Runs the program of a conversion within this process: the estimators of these tests are known."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def run(self, task: bytes, files: Mapping[str, Path], bounds: JobBounds, **more: Any) -> bytes:
        folder = self._place / uuid4().hex
        folder.mkdir(parents=True)
        lay_out(folder, task, files)
        return carry_out(task, folder)

    def remove_left(self) -> set[str]:
        return set()


def convert(registry: MlflowModelRegistry, version: RegisteredVersion, folder: Path, rows: str | None = None) -> Path:
    return convert_files(
        Unconfined(folder / "jobs"), registry, version, rows=rows, folder=folder, report_progress=lambda line: None
    )


def test_a_plain_version_is_refused_with_the_call_that_makes_it_servable(
    registry: MlflowModelRegistry, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    version = plain(registry, notebooks.logistic())
    with pytest.raises(NotServable, match="has no ONNX model: it was logged as sklearn") as refusal:
        package(registry, tmp_path, version)
    call = 'slipway.log_model(model, X_test[["age", "fare", "pclass", "sex", "port"]], y_test, task="binary",'
    assert f'import slipway; {call} name="{MODEL}")' in refusal.value.next
    assert f"make model-convert VERSION={version.version}" in refusal.value.next


def test_a_converted_version_is_packaged_and_remembers_its_source(
    registry: MlflowModelRegistry, mlflow_uri: str, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    version = plain(registry, notebooks.forest())
    registered = register_converted(convert(registry, version, tmp_path), mlflow_uri)
    found = registry.newest(MODEL)
    assert (found.version, found.run_id) == (registered["model_version"], registered["run_id"])
    packaged = package(registry, tmp_path / "packaged", found)
    assert packaged.own_evaluation and packaged.predictions
    assert {feature["name"] for feature in packaged.body["features"]} == set(FEATURES)
    tags = registry.run_tags(found.run_id)
    assert tags["slipway.converted_from"] == version.version
    # Compared on the rows of the version in production, since its own run has none.
    assert packaged.evaluation_digest == registry.run_tags(servable.run_id)["slipway.dataset.evaluation"]
    assert MlflowClient(mlflow_uri).get_run(found.run_id).data.metrics["accuracy"] > 0.5
    answers = mlflow.onnx.load_model(f"models:/{MODEL}/{found.version}")
    assert {each.name for each in answers.graph.input} == set(FEATURES)


def test_what_a_version_looks_at_is_all_that_its_conversion_takes(
    registry: MlflowModelRegistry, mlflow_uri: str, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    version = plain(registry, LogisticRegression(max_iter=1000), ["fare", "pclass"])
    register_converted(convert(registry, version, tmp_path, servable.version), mlflow_uri)
    body = package(registry, tmp_path / "packaged", registry.newest(MODEL)).body
    assert [feature["name"] for feature in body["features"]] == ["fare", "pclass"]


@pytest.mark.usefixtures("servable")
@pytest.mark.parametrize(
    ("estimator", "told", "message"),
    [
        (
            make_pipeline(FunctionTransformer(abs), LogisticRegression()),
            {},
            r"step functiontransformer \(FunctionTransformer\) can't be exported",
        ),
        (LogisticRegression(), {"pip_requirements": ["scikit-learn==1.2.0"]}, "was fitted by scikit-learn 1.2, and"),
        (LogisticRegression(), {"code_paths": [__file__]}, "brings code of its own"),
    ],
)
def test_what_cant_be_converted_says_why(
    registry: MlflowModelRegistry, tmp_path: Path, estimator: Any, told: dict[str, Any], message: str
) -> None:
    version = plain(registry, estimator, ["fare", "pclass"], **told)
    with pytest.raises(NotServable, match=message):
        convert(registry, version, tmp_path)


def test_an_estimator_that_answers_other_labels_or_takes_other_columns_is_refused(
    registry: MlflowModelRegistry, mlflow_uri: str, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    fitted = LogisticRegression().fit(ROWS[["fare"]], ROWS["survived"].map({0: "no", 1: "yes"}))
    told: list[str] = []
    for number, (estimator, message) in enumerate(
        [
            (fitted, "it answers no, yes, and the evaluation rows hold 0, 1"),
            (LogisticRegression().fit(ROWS[["fare"]].to_numpy(), ROWS["survived"]), "was fitted on 1 columns"),
        ]
    ):
        with mlflow.start_run():
            info = mlflow.sklearn.log_model(
                estimator, name="model", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
            )
        made = mlflow.register_model(info.model_uri, MODEL)
        with pytest.raises(NotServable, match=message) as refused:
            convert(registry, registry.version(MODEL, str(made.version)), tmp_path / str(number))
        told.append(refused.value.next)
    assert "ROWS=m" in told[1]


class Touching:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_nothing_is_loaded_outside_of_the_job(
    registry: MlflowModelRegistry, mlflow_uri: str, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    version = plain(registry, LogisticRegression(), ["fare"])
    MlflowTrainer(mlflow_uri).overwrite(version, "model.pkl", pickle.dumps(Touching(trace)))
    with pytest.raises(NotServable):
        package(registry, tmp_path / "packaged", version)
    assert not trace.exists()
    with pytest.raises(NotServable, match=r"can't be converted: .* is no classifier"):
        convert(registry, version, tmp_path / "converted")
    assert trace.exists(), "the job itself loads it, which is why it is confined"


def test_a_check_says_whether_a_version_can_be_served(
    registry: MlflowModelRegistry, mlflow_uri: str, servable: slipway.LoggedVersion, tmp_path: Path
) -> None:
    version = plain(registry, LogisticRegression(), ["fare"])
    environ = {"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_PROJECT": str(tmp_path)}
    environ["SLIPWAY_PORT_MLFLOW"] = mlflow_uri.rpartition(":")[2]
    (tmp_path / "model.yaml").write_text(f"name: {MODEL}\n")
    settings = Settings.from_environ(environ)
    checked = check_version(settings, environ, servable.version, lambda line: None)
    assert (checked["servable"], checked["task"], set(checked["features"])) == (True, "binary", set(FEATURES))
    with pytest.raises(NotServable, match="has no ONNX model"):
        check_version(settings, environ, version.version, lambda line: None)
    assert not list((tmp_path / "home").rglob("bundle.json"))


def test_rows_have_to_be_known(registry: MlflowModelRegistry, mlflow_uri: str, tmp_path: Path) -> None:
    version = MlflowTrainer(mlflow_uri).register(
        "rowless-passengers", onnx=None, input_types={"x": "double"}, artifacts={}, run_tags={}
    )
    mlflow.set_tracking_uri(mlflow_uri)
    with pytest.raises(UsageError, match="no evaluation rows are known to compare v1 on"):
        convert(registry, version, tmp_path / "a")
    with pytest.raises(UsageError, match="version 1 has no evaluation rows"):
        convert(registry, version, tmp_path / "b", "1")


def test_one_machine_converts_nothing(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)})
    with pytest.raises(TargetUnavailable, match="runs whatever code is in it") as refusal:
        convert_version(settings, {}, "1", None, lambda line: None)
    assert "slipway.log_model" in refusal.value.next and "TARGET=docker" in refusal.value.next


@pytest.mark.parametrize("answer", [{}, {"files": {"../x": ""}, "predictions": "", "metrics": {}}])
def test_an_answer_of_another_form_is_not_believed(
    registry: MlflowModelRegistry, servable: slipway.LoggedVersion, tmp_path: Path, answer: dict[str, Any]
) -> None:
    class Lying:
        def run(self, *given: Any, **more: Any) -> bytes:
            return json.dumps(answer).encode()

        def remove_left(self) -> set[str]:
            return set()

    version = registry.version(MODEL, servable.version)
    with pytest.raises(SlipwayError, match=r"answered (what is no ConvertedVersion|with no model)") as refusal:
        convert_files(Lying(), registry, version, rows=None, folder=tmp_path, report_progress=lambda line: None)
    # No policy bounds a conversion.
    assert refusal.value.next == "try again" or "slipway.log_model" in refusal.value.next
    assert not list(tmp_path.rglob("x"))
