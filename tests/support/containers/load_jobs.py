"""A place for load jobs: a Swarm overlay of one's own, with servers of known latency on it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from pipelines.adapters.load.job import LoadJob
from pipelines.adapters.load.networks import LoadFront, LoadNetworks
from pipelines.adapters.load.swarm import LoadSwarm
from pipelines.adapters.swarm.engine import DockerEngine
from tests.support.containers.engine import ENGINE_URL, hardened, remove_network
from tests.support.containers.needs import skip_without_containers
from tests.support.world import load_plans

SERVER = Path(__file__).parents[1] / "servers" / "latency_server.py"
SLOT_URL = "http://trial:8000"
READY_S = 20
PLAN: dict[str, Any] = {**load_plans.PLAN, "workers": 2, "max_stall_s": 5.0, "limits": [load_plans.P95]}


class LoadPlace:
    """An attachable overlay that leads nowhere else; everything on it carries `prefix`."""

    def __init__(self, engine: docker.DockerClient, image: str, prefix: str) -> None:
        self.prefix = prefix
        self.image = image
        self._engine = engine
        self._docker = DockerEngine(ENGINE_URL)
        self.network = engine.networks.create(
            f"{prefix}-load", driver="overlay", attachable=True, internal=True,
            labels={LABEL_SESSION_ID: SESSION_ID},
        )  # fmt: skip

    @property
    def front(self) -> LoadFront:
        """The way to the server."""
        return LoadFront(str(self.network.id), f"http://{self.prefix}-front:8000")

    def job(
        self, *, engine: DockerEngine | None = None, front: LoadFront | None = None, image: str = "", **options: Any
    ) -> LoadJob:
        """Make the runner whose plans name the server by SLOT_URL."""
        networks = LoadNetworks({SLOT_URL: front or self.front})
        return LoadJob(
            LoadSwarm(engine or self._docker, self.prefix, image or self.image, owner="executor"), networks, **options
        )

    @contextmanager
    def serving(self, **latency_model: Any) -> Iterator[str]:
        """Serve by a law of latency; yield the URL for a plan."""
        latency_model = {"host": "0.0.0.0", "port": 8000, **latency_model}
        container = hardened(
            self.image, volumes={SERVER: "/latency_server.py"}, healthy=False,
            entrypoint=["python", "/latency_server.py", json.dumps(latency_model)], network=self.network.name,
        ).with_name(f"{self.prefix}-front")  # fmt: skip
        with container:
            deadline = time.monotonic() + READY_S
            while b"8000" not in container.get_logs()[0]:
                assert time.monotonic() < deadline, container.get_logs()
                time.sleep(0.1)
            yield SLOT_URL

    def left(self) -> list[str]:
        """Name everything in the engine that a load run has left."""
        filters = {"label": f"slipway.prefix={self.prefix}"}
        api = self._engine.api
        return [
            *(service["Spec"]["Name"] for service in api.services(filters=filters)),
            *(task["ID"] for task in api.tasks(filters=filters)),
            *(config["ID"] for config in api.configs(filters=filters)),
            *(container["Names"][0] for container in api.containers(all=True, filters=filters)),
            *(volume["Name"] for volume in api.volumes(filters=filters)["Volumes"] or []),
        ]

    def running(self) -> list[dict[str, Any]]:
        """Inspect the containers of load runs that run now."""
        found = self._engine.api.containers(filters={"label": f"slipway.prefix={self.prefix}"})
        return [self._engine.api.inspect_container(container["Id"]) for container in found]

    def close(self) -> None:
        """Remove the network, and what a failed test has left."""
        self.job().remove_left()
        remove_network(self._engine, self.network)
        with self._docker.api() as api:
            api.close()


@contextmanager
def load_place(engine: docker.DockerClient, image: str, name: str) -> Iterator[LoadPlace]:
    """Make a place of one test module; skip where the engine is in no swarm."""
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the container engine is in no swarm: docker swarm init")
    place = LoadPlace(engine, image, f"slipway-{name}-{SESSION_ID[:8]}")
    # The edge stands on the network of an installation all the time, and so does this here: the engine takes its own
    # copy of an overlay away with the last container, and a start that meets that fails and leaves a task behind.
    standing = hardened(image, healthy=False, entrypoint=["sleep", "infinity"], network=place.network.name)
    try:
        with standing:
            yield place
    finally:
        place.close()
