"""Confined jobs as containers: without network, rights or a disk of their own, bounded, and gone afterwards."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from testcontainers.core.labels import SESSION_ID

from pipelines.adapters.jobs import container as job_container
from pipelines.adapters.jobs.container import ContainerJobs
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Cancelled, JobFailed, NotServable, Undecided
from pipelines.packaging.confined import PackagingTask, Parsed, ask
from pipelines.ports import JobBounds
from tests.support.containers.engine import ENGINE_URL, engine, images
from tests.support.world.bad_files import endless_model, mlmodel
from tests.support.world.trained import EVALUATION_ROWS, trained

__all__ = ["engine", "images"]

pytestmark = pytest.mark.timeout(600)

PREFIX = f"slipway-jobs-{SESSION_ID[:8]}"
BOUNDS = JobBounds(wall_s=60, memory_mb=512)
MIB = 1024 * 1024
# Inside of the image there are no tests: the program comes as a file of the job, and is found in its directory.
PROGRAM = Path(__file__).parents[1] / "support" / "world" / "job_programs.py"


@pytest.fixture(scope="module")
def control(images: dict[str, str]) -> str:
    return images["control"]


@pytest.fixture
def jobs(control: str, monkeypatch: pytest.MonkeyPatch) -> ContainerJobs:
    monkeypatch.setattr(job_container, "_CODE", "/srv:/job")
    return ContainerJobs(DockerEngine(ENGINE_URL), PREFIX, image=control, program="job_programs")


@pytest.fixture(autouse=True)
def nothing_left(engine: docker.DockerClient) -> Iterator[None]:
    yield
    assert engine.api.containers(all=True, filters={"label": f"slipway.prefix={PREFIX}"}) == []


def answer(jobs: ContainerJobs, task: str, bounds: JobBounds = BOUNDS, **options: Any) -> Any:
    return json.loads(jobs.run(task.encode(), {"job_programs.py": PROGRAM}, bounds, **options))


def test_a_job_is_confined(jobs: ContainerJobs, engine: docker.DockerClient) -> None:
    seen: list[dict[str, Any]] = []

    def check() -> None:
        (found,) = engine.api.containers(filters={"label": f"slipway.prefix={PREFIX}"})
        seen.append(engine.api.inspect_container(found["Id"]))
        raise Cancelled("seen")

    with pytest.raises(Cancelled):
        answer(jobs, "sleep", check=check)
    host, config = seen[0]["HostConfig"], seen[0]["Config"]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Memory"] == host["MemorySwap"] == (512 + 16) * MIB
    assert (host["PidsLimit"], host["NanoCpus"]) == (64, 10**9)
    assert config["User"] == "10001:10001"
    assert not [each for each in config["Env"] if "PASSWORD" in each or "TOKEN" in each or "SECRET" in each]


def test_a_job_reads_its_files_and_can_write_none(jobs: ContainerJobs) -> None:
    assert set(answer(jobs, "list")) == {"job_programs.py"}
    found = answer(jobs, "look")
    assert (found["uid"], found["gives_way_by"]) == (10001, 5)
    with pytest.raises(JobFailed, match=r"Permission denied|Read-only file system"):
        answer(jobs, "write /job")
    with pytest.raises(JobFailed, match="Read-only file system"):
        answer(jobs, "write /srv")


def test_a_job_reaches_nobody(jobs: ContainerJobs) -> None:
    for address in ("1.1.1.1:80", "172.17.0.1:22", "169.254.169.254:80"):
        with pytest.raises(JobFailed, match="Network is unreachable"):
            answer(jobs, f"reach {address}")


@pytest.mark.parametrize(
    ("task", "bounds", "told"),
    [
        ("sleep", JobBounds(wall_s=3, memory_mb=512), "took longer than 3 s"),
        ("grow", BOUNDS, "needed more than 512 MB of memory"),
        ("fork 100", BOUNDS, "Resource temporarily unavailable"),
        ("talk 2000000", JobBounds(wall_s=60, memory_mb=512, answer_bytes=100_000), "answered more than 100,000"),
        ("crash", BOUNDS, r"ended with \d+: the last words"),
    ],
)
def test_a_job_that_goes_beyond_its_bounds_is_ended_and_named(
    jobs: ContainerJobs, task: str, bounds: JobBounds, told: str
) -> None:
    with pytest.raises(JobFailed, match=told):
        answer(jobs, task, bounds)


def test_a_version_is_read_in_a_container_and_an_endless_one_refused(
    control: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    plants = trained(tmp_path_factory.mktemp("plants")).root
    runner = ContainerJobs(DockerEngine(ENGINE_URL), PREFIX, image=control)
    described, endless = tmp_path / "MLmodel", tmp_path / "endless.onnx"
    described.write_bytes(mlmodel(height="double", age="long", potted="long", soil="string"))
    endless.write_bytes(endless_model())
    task = PackagingTask(version="version 1", features=None, predictions=False)
    files = {
        "model/MLmodel": described,
        "model/model.onnx": plants / "models/model.onnx",
        "evaluation.parquet": plants / "data/snapshots/evaluation.parquet",
    }

    parsed = ask(lambda task, files: runner.run(task, files, JobBounds(60, 1024)), task, files, Parsed)
    assert (parsed.model_file, len(parsed.rows)) == ("model.onnx", EVALUATION_ROWS)

    described.write_bytes(mlmodel(height="double"))
    spoilt = {**files, "model/model.onnx": endless}
    with pytest.raises(JobFailed, match=r"took longer than 10 s|was killed after 10 s of a processor"):
        ask(lambda task, files: runner.run(task, files, JobBounds(10, 1024)), task, spoilt, Parsed)
    with pytest.raises(NotServable, match="is not an ONNX model"):
        endless.write_bytes(b"\x80\x04pickle")
        ask(lambda task, files: runner.run(task, files, JobBounds(60, 1024)), task, spoilt, Parsed)


def test_what_a_dead_executor_left_is_removed(jobs: ContainerJobs, engine: docker.DockerClient) -> None:
    left = threading.Event()

    def check() -> None:
        assert len(jobs.remove_left()) == 1
        left.set()

    with pytest.raises((JobFailed, Undecided)):
        answer(jobs, "sleep", check=check)
    assert left.is_set()
    assert jobs.remove_left() == set()
