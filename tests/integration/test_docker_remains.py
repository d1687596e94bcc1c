"""What is found in a real engine by an installation's label, and what of it a repair removes."""

import io
import secrets
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import docker
import pytest

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.swarm.engine import DockerEngine
from tests.support.containers.engine import ENGINE_URL
from tests.support.containers.needs import skip_without_containers


class Parts:
    """Services without a task and containers that are never started, all of one installation."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.api = client.api
        self.prefix = f"test-{secrets.token_hex(3)}"
        self.installation = EngineParts(DockerEngine(ENGINE_URL), self.prefix)
        self.image = f"{self.prefix}-nothing"
        with io.BytesIO() as empty:
            tarfile.open(fileobj=empty, mode="w").close()
            self.api.import_image_from_data(empty.getvalue(), repository=self.image)

    def make(self, name: str, role: str) -> None:
        labels = {PREFIX_LABEL: self.prefix, "slipway.role": role}
        task, idle = {"ContainerSpec": {"Image": self.image}}, {"Replicated": {"Replicas": 0}}
        endpoint = {"Mode": "dnsrr"}
        self.api.create_service(task, name=f"{self.prefix}-{name}", labels=labels, mode=idle, endpoint_spec=endpoint)
        self.api.create_container(self.image, ["nothing"], name=f"{self.prefix}-{name}-files", labels=labels)

    def names(self) -> set[str]:
        filters = {"label": f"{PREFIX_LABEL}={self.prefix}"}
        services = {service["Spec"]["Name"] for service in self.api.services(filters=filters)}
        containers = {each["Names"][0].lstrip("/") for each in self.api.containers(all=True, filters=filters)}
        return {name.removeprefix(f"{self.prefix}-") for name in services | containers}


@pytest.fixture
def parts(engine: docker.DockerClient) -> Iterator[Parts]:
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the engine is in no swarm")
    made = Parts(engine)
    try:
        yield made
    finally:
        made.installation.remove_all()
        engine.api.remove_image(made.image)


def test_a_repair_removes_what_is_unknown_and_what_an_executor_that_is_gone_has_left(parts: Parts) -> None:
    parts.make("stranger", "control")
    parts.make("load-7", "load")
    since = datetime.now(UTC) - timedelta(hours=1)
    removed = parts.installation.remove_unknown((), since)
    left = [f"{parts.prefix}-{name}" for name in ("load-7", "load-7-files", "stranger", "stranger-files")]
    assert sorted(removed) == left
    assert parts.names() == set()


def test_a_repair_leaves_what_is_known_or_was_there_before(parts: Parts) -> None:
    parts.make("stranger", "control")
    assert parts.installation.remove_unknown((), datetime.now(UTC) + timedelta(hours=1)) == []
    known = {service["ID"] for service in parts.api.services(filters={"name": parts.prefix})}
    parts.installation.remove_unknown(known, datetime.now(UTC) - timedelta(hours=1))
    assert parts.names() == {"stranger"}


def test_all_of_an_installation_can_be_removed_its_load_runs_too(parts: Parts) -> None:
    parts.make("stranger", "control")
    parts.make("load-7", "load")
    assert len(parts.installation.remove_all()) == 4
    assert parts.names() == set()
