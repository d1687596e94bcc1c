"""The container engine and the real images for tests, which run as hardened as they run in an installation.

`engine` and `images` are fixtures for every test: a client of the engine, skipped where none answers, and image name ->
id, whereby what is missing is built. Containers, networks and volumes carry the session's label; what a test leaves is
removed at the session's end.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.models.networks
import pytest
from docker.errors import APIError, NotFound
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.images.build import build_images
from pipelines.wiring.docker import engine_url
from tests.support.containers.needs import skip_without_containers

ROOT = Path(__file__).resolve().parents[3]
ENGINE_URL = engine_url(os.environ)
_used: list[bool] = []
LABEL = {"label": f"{LABEL_SESSION_ID}={SESSION_ID}"}
HEALTHY_S = 90
# How long a network may outlive what was in it.
RELEASED_S = 60.0
# The first session of a machine builds the images within a test's setup.
FIRST_BUILD_S = 1800


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    # The image that would clean up can't be pulled everywhere: the end of the session does it.
    testcontainers_config.ryuk_disabled = True
    testcontainers_config.tc_host_override = "127.0.0.1"
    testcontainers_config.connection_mode_override = ConnectionMode.docker_host
    if why := _unreachable(ENGINE_URL):
        skip_without_containers(f"no container engine answers: {why}")
    client = docker.from_env(timeout=120)
    _used.append(True)
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(engine: docker.DockerClient) -> dict[str, str]:
    """Image name -> id, of every image."""
    with (Path(tempfile.gettempdir()) / "slipway-test-images.lock").open("w") as lock:
        # Test processes run side by side, and one build is enough.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_images(ROOT, (), report_progress=print)


@pytest.fixture
def network(engine: docker.DockerClient) -> Iterator[Network]:
    """A network of one test's containers."""
    with Network() as made:
        yield made


def hardened(
    image: str,
    *,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    volumes: Mapping[str | Path, str] | None = None,
    data: str | None = None,
    healthy: bool = True,
    **options: Any,
) -> DockerContainer:
    """Describe a container with a read-only root, no capability, no way to more rights, and bounded memory.

    `volumes` are directories or files of this machine, by their place in the container; they are read-only. `data` is
    a volume's name, mounted at /data. `port` is published on a free port of 127.0.0.1.
    """
    container = DockerContainer(image, env=dict(env or {})).with_tmpfs_mount("/tmp", "size=256m,mode=1777")
    for source, place in (volumes or {}).items():
        container.with_volume_mapping(source, place, "ro")
    if data:
        container.with_volume_mapping(data, "/data", "rw")
    if port:
        published: dict[str, Any] = container.ports
        published[f"{port}/tcp"] = ("127.0.0.1", None)
    if healthy:
        container.waiting_for(HealthcheckWaitStrategy().with_startup_timeout(HEALTHY_S))
    limits = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "mem_limit": "2g"}
    return container.with_kwargs(**limits, **options)


def in_network(container: DockerContainer, network: Network, alias: str) -> DockerContainer:
    """Put a container into a network, where it is found by `alias`."""
    return container.with_network(network).with_network_aliases(alias)


def url_of(container: DockerContainer, port: int) -> str:
    """Return where this machine reaches a port of a container."""
    return f"http://127.0.0.1:{container.get_exposed_port(port)}"


def secret_files(directory: Path, **secrets: str) -> dict[str | Path, str]:
    """Write secrets as files that a container's user can read; return the mapping for `volumes`.

    An underscore in a name becomes a dash.
    """
    directory.mkdir(exist_ok=True)
    for name, value in secrets.items():
        file = directory / name.replace("_", "-")
        file.write_text(value)
        file.chmod(0o444)
    directory.chmod(0o755)
    return {directory: "/run/secrets"}


def left_of(client: docker.DockerClient, prefix: str) -> list[str]:
    """Return the names of all in the engine that carries an installation's label."""
    api, filters = client.api, {"label": f"{PREFIX_LABEL}={prefix}"}
    described = [*api.services(filters=filters), *api.secrets(filters=filters), *api.configs(filters=filters)]
    named = [*api.networks(filters=filters), *(api.volumes(filters=filters)["Volumes"] or [])]
    containers = [name for each in api.containers(all=True, filters=filters) for name in each["Names"]]
    return [each["Spec"]["Name"] for each in described] + [each["Name"] for each in named] + containers


def make_volume(engine: docker.DockerClient) -> str:
    """Make an empty volume that is removed at the session's end; return its name."""
    return str(engine.volumes.create(labels={LABEL_SESSION_ID: SESSION_ID}).name)


def remove_network(engine: docker.DockerClient, network: docker.models.networks.Network) -> None:
    """Remove a network that containers or tasks were in, once the engine has noticed that all of them are gone."""
    deadline, last = time.monotonic() + RELEASED_S, ""
    while engine.networks.list(ids=[network.id]):
        assert time.monotonic() < deadline, f"{network.name} can't be removed: {last}"
        try:
            network.remove()
        except APIError as error:
            last = str(error)
        time.sleep(0.2)


def run_to_end(container: DockerContainer) -> tuple[int, str]:
    """Run a container that ends by itself; return its exit code and what it wrote."""
    with container:
        code = container.get_wrapped_container().wait(timeout=HEALTHY_S)["StatusCode"]
        return int(code), container.get_wrapped_container().logs().decode(errors="replace")


def _unreachable(url: str) -> str:
    """Say why nobody listens there, without a client of the engine, which leaves its socket open when it fails."""
    scheme, _, place = url.partition("://")
    if scheme != "unix":
        return ""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(place)
        except OSError as error:
            return f"{url}: {error.strerror}"
    return ""


def remove_what_is_left() -> None:
    """Remove what this session's tests have left in the engine, once every fixture has ended by itself.

    No fixture does it: one that another asks for while it is made may end before that other.
    """
    if not _used:
        return
    client = docker.from_env(timeout=120)
    for container in client.containers.list(all=True, filters=LABEL, ignore_removed=True):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
    for left in [*client.networks.list(filters=LABEL), *client.volumes.list(filters=LABEL)]:
        # What the engine still holds for a moment costs a name, and is no failure of a test.
        with contextlib.suppress(APIError):
            left.remove()
    client.close()
