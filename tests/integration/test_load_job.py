"""A load job that is killed, refused, orphaned or too slow: each is undecided with its reason, and nothing is left."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound

from pipelines.adapters.load.files import planned_s
from pipelines.adapters.load.networks import LoadFront
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Undecided
from pipelines.settings.settings import ROOT
from tests.support.containers.engine import ENGINE_URL, engine, hardened, images, make_volume, url_of
from tests.support.containers.load_jobs import PLAN, SLOT_URL, LoadPlace, load_place
from tests.support.world.load_plans import ROWS

__all__ = ["engine", "images"]

pytestmark = pytest.mark.timeout(2400)

LONG = {**PLAN, "host": SLOT_URL, "duration_s": 60, "workers": 1}
START_S = 60
# Nobody listens on the discard port.
NOBODY = "127.0.0.1:9"
MIB = 1024 * 1024
SERVICE_NAME = "com.docker.swarm.service.name"
# Begins a run and is killed in it, as an executor may be.
EXECUTOR = """
import sys
from pathlib import Path
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.load.job import LoadJob
from pipelines.adapters.load.networks import LoadFront, LoadNetworks
from pipelines.adapters.load.swarm import LoadSwarm
from tests.support.containers.load_jobs import PLAN, SLOT_URL
from tests.support.world.load_plans import ROWS
url, network, front, prefix, image, workdir = sys.argv[1:]
swarm = LoadSwarm(DockerEngine(url), prefix, image, owner="executor")
job = LoadJob(swarm, LoadNetworks({SLOT_URL: LoadFront(network, front)}))
job.run({**PLAN, "host": SLOT_URL, "duration_s": 60}, ROWS, Path(workdir))
"""


@pytest.fixture(scope="module")
def place(engine: docker.DockerClient, images: dict[str, str]) -> Iterator[LoadPlace]:
    with load_place(engine, images["loadtest"], "job") as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(place: LoadPlace) -> Iterator[None]:
    yield
    assert place.left() == []


class Background:
    """A long run in a thread of its own, and what it told."""

    def __init__(self, place: LoadPlace, workdir: Path, plan: dict[str, Any] = LONG, **options: Any) -> None:
        self.told: list[str] = []
        self._plan = plan
        self.error: Undecided | None = None
        self._job = place.job(report_progress=self.told.append, **options)
        self._workdir = workdir
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def await_progress(self) -> None:
        eventually(lambda: any(line.startswith("look 1: ") for line in self.told), lambda: str(self.told or self.error))

    def join(self) -> Undecided:
        self._thread.join(START_S)
        assert self.error, "the run is not over, or was judged"
        return self.error

    def _run(self) -> None:
        try:
            self._job.run(self._plan, ROWS, self._workdir)
        except Undecided as error:
            self.error = error


def eventually(holds: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def test_a_killed_job_is_undecided_with_its_last_lines(
    place: LoadPlace, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with place.serving(delay_ms=2):
        run = Background(place, tmp_path)
        run.await_progress()
        (container,) = place.running()
        engine.api.kill(container["Id"])
        error = run.join()

    assert error.message.startswith("the load run ended with 137 (task: non-zero exit (137)): ")
    assert "look 1: 100 req/s for 60 s" in error.message
    assert "look 1: 100 req/s for 60 s" in (tmp_path / "load.log").read_text()


def test_the_job_is_confined_and_on_the_load_network_only(
    place: LoadPlace, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with place.serving(delay_ms=2):
        run = Background(place, tmp_path)
        run.await_progress()
        (container,) = place.running()
        (service,) = engine.api.services(filters={"label": f"slipway.prefix={place.prefix}"})
        engine.api.remove_service(service["ID"])
        run.join()

    assert_confined(container, place)
    assert container["HostConfig"]["Memory"] == 1152 * MIB


def assert_confined(container: dict[str, Any], place: LoadPlace) -> None:
    host, config = container["HostConfig"], container["Config"]
    assert list(container["NetworkSettings"]["Networks"]) == [place.network.name]
    assert not container["NetworkSettings"]["Ports"]
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert host["NanoCpus"] == min(2, os.cpu_count() or 1) * 10**9
    assert host["PidsLimit"] == 256
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}


def test_a_killed_worker_is_undecided_and_workers_are_confined_like_the_job(
    place: LoadPlace, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with place.serving(delay_ms=2):
        run = Background(place, tmp_path, {**LONG, "workers": 2})
        run.await_progress()
        containers = place.running()
        workers = [each for each in containers if each["Config"]["Labels"][SERVICE_NAME].endswith("-workers")]
        engine.api.kill(workers[0]["Id"])
        error = run.join()

    assert (len(containers), len(workers)) == (3, 2)
    assert re.match(r"the load run lost worker \d: failed \(task: non-zero exit \(137\)\): ", error.message)
    for container in containers:
        assert_confined(container, place)
    for worker in workers:
        assert [(mount["Type"], mount["Destination"]) for mount in worker["Mounts"]] == [("tmpfs", "/tmp")]
        assert worker["HostConfig"]["Memory"] == 384 * MIB


def test_a_run_that_outlives_its_time_is_ended(place: LoadPlace, tmp_path: Path) -> None:
    begun = time.monotonic()
    with place.serving(delay_ms=2), pytest.raises(Undecided, match="did not end within 5 s"):
        place.job(spare_s=5 - planned_s(LONG)).run(LONG, ROWS, tmp_path)

    assert time.monotonic() - begun < 40


def test_a_missing_image_is_named(place: LoadPlace, tmp_path: Path) -> None:
    missing = "sha256:" + "0" * 64

    with pytest.raises(Undecided, match=f"No such image: {missing}"):
        place.job(image=missing).run(LONG, ROWS, tmp_path)


def test_an_image_that_can_not_be_pulled_is_named_with_the_reason(place: LoadPlace, tmp_path: Path) -> None:
    image = f"{NOBODY}/slipway/loadtest@sha256:" + "0" * 64

    with pytest.raises(Undecided, match="connection refused"):
        place.job(image=image).run(LONG, ROWS, tmp_path)


def test_an_image_that_only_a_registry_holds_is_pulled(
    place: LoadPlace, engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with hardened(images["image_registry"], port=5000, data=make_volume(engine)) as registry:
        name = f"{url_of(registry, 5000).removeprefix('http://')}/small"
        small = engine.images.get(images["edge"])
        small.tag(name, "base")
        engine.images.push(name, "base")
        small.reload()
        pinned = next(each for each in small.attrs["RepoDigests"] if each.startswith(name))
        engine.images.remove(f"{name}:base")
        with pytest.raises(ImageNotFound):
            engine.images.get(pinned)
        try:
            # It runs no load, but it runs.
            with pytest.raises(Undecided, match=r"ended with \d+ \(task: non-zero exit"):
                place.job(image=pinned).run(LONG, ROWS, tmp_path)
        finally:
            engine.images.remove(pinned)


def test_a_job_that_finds_no_node_is_undecided_with_the_schedulers_reason(place: LoadPlace, tmp_path: Path) -> None:
    # Each worker has memory reserved; no machine has that much.
    plan = {**LONG, "workers": 100_000, "max_in_flight": 100_000}

    with pytest.raises(Undecided, match=r"did not start within 3 s: pending .*insufficient resources"):
        place.job(start_s=3).run(plan, ROWS, tmp_path)


def test_a_load_network_that_is_gone_is_named(place: LoadPlace, tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="no-such-network"):
        place.job(front=LoadFront("no-such-network", place.front.url)).run(LONG, ROWS, tmp_path)


def test_what_a_dead_executor_left_is_removed_at_the_next_start(place: LoadPlace, tmp_path: Path) -> None:
    words = [ENGINE_URL, place.front.network, place.front.url, place.prefix, place.image]
    with place.serving(delay_ms=2):
        executor = subprocess.Popen([sys.executable, "-c", EXECUTOR, *words, str(tmp_path)], cwd=ROOT)
        with executor:
            eventually(lambda: len(place.running()) == 1 + PLAN["workers"], executor.poll)
            executor.send_signal(signal.SIGKILL)
        assert len(place.left()) > 6, "two services, three tasks, four containers and a volume are expected"

        assert place.job().remove_left()

    assert place.left() == []
    assert place.job().remove_left() == set()


def test_an_engine_that_does_not_answer_is_undecided(place: LoadPlace, tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="container engine"):
        place.job(engine=DockerEngine(f"tcp://{NOBODY}")).run(LONG, ROWS, tmp_path)
