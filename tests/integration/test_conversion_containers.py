"""A conversion in its container: it loads whatever an estimator is, and what that does reaches nothing."""

import base64
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import mlflow
import pytest
from sklearn.linear_model import LogisticRegression
from testcontainers.core.labels import SESSION_ID

from pipelines.adapters.images.build import build_images
from pipelines.adapters.jobs.container import ContainerJobs
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.domain.description import Task
from pipelines.errors import NotServable
from pipelines.packaging.confined import ask
from pipelines.packaging.converted import ConversionTask, ConvertedVersion
from pipelines.packaging.onnx_model import OnnxModel
from pipelines.ports import JobBounds
from pipelines.training.fitted.version import Told, lay_out
from pipelines.training.workspace import Workspace
from pipelines.wiring.docker import CONVERT_IMAGE, CONVERT_PROGRAM
from tests.support.containers.engine import ENGINE_URL, ROOT
from tests.support.world import notebooks

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
]

PREFIX = f"slipway-conversions-{SESSION_ID[:8]}"
ROWS = notebooks.passengers()
FEATURES = [*notebooks.NUMBERS, *notebooks.TEXTS]
TASK = ConversionTask(version="version 3 of passengers", model="passengers")
# Runs while the estimator is loaded, and refuses with what it has found.
PROBE = """
import os, socket
words = ("PASSWORD", "TOKEN", "SECRET", "MLFLOW_TRACKING")
found = [name for name in os.environ if any(word in name for word in words)]
try:
    socket.create_connection(("1.1.1.1", 53), timeout=2)
    found.append("network")
except OSError:
    pass
for place in ("/srv/x", "/job/x", "/opt/slipway/x"):
    try:
        open(place, "w")
        found.append(place)
    except OSError:
        pass
raise RuntimeError(f"found {found} as {os.getuid()}")
"""


@pytest.fixture(scope="module")
def jobs(engine: docker.DockerClient) -> Iterator[ContainerJobs]:
    image = build_images(ROOT, [CONVERT_IMAGE], report_progress=print)[CONVERT_IMAGE]
    yield ContainerJobs(DockerEngine(ENGINE_URL), PREFIX, image=image, program=CONVERT_PROGRAM)
    assert engine.api.containers(all=True, filters={"label": f"slipway.prefix={PREFIX}"}) == []


class Probing:
    """Runs PROBE where it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, (PROBE,))


def version(root: Path, estimator: Any, columns: list[str]) -> dict[str, Path]:
    """Return the files of a version that was logged by MLflow alone, and of rows that judge it."""
    estimator.fit(ROWS[columns], ROWS["survived"])
    lay_out(Workspace(root), estimator, ROWS[columns], ROWS["survived"], Told("passengers", Task.BINARY))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            estimator, str(root / "plain"), serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
        )
    files = {f"model/{path.name}": path for path in (root / "plain").iterdir() if path.is_file()}
    return {**files, "evaluation.parquet": Workspace(root).evaluation}


def convert(jobs: ContainerJobs, files: Mapping[str, Path]) -> ConvertedVersion:
    bounds = JobBounds(wall_s=300, memory_mb=4096, answer_bytes=64 << 20)
    return ask(lambda task, given: jobs.run(task, given, bounds), TASK, files, ConvertedVersion)


def test_an_estimator_is_converted_in_a_container(jobs: ContainerJobs, tmp_path: Path) -> None:
    answer = convert(jobs, version(tmp_path, notebooks.logistic(), FEATURES))
    model = OnnxModel.read(base64.b64decode(answer.files["model.onnx"]), "model.onnx")
    assert {each.name for each in model.inputs} == set(FEATURES)
    assert answer.metrics["onnx_max_abs_difference"] < 1e-6


def test_what_an_estimator_does_when_it_is_loaded_reaches_nothing(jobs: ContainerJobs, tmp_path: Path) -> None:
    files = version(tmp_path, LogisticRegression(), ["fare", "pclass"])
    files["model/model.pkl"].write_bytes(pickle.dumps(Probing()))
    with pytest.raises(NotServable, match=r"can't be loaded: RuntimeError: found \[\] as 10001"):
        convert(jobs, files)
