"""One installation a session and target, on which the demonstration has run."""

import shutil
from collections.abc import Iterator

import docker
import pytest

from tests.e2e.containers import Containers
from tests.e2e.installation import Installation
from tests.support.containers.needs import skip_without_containers


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """Run `slipway demo` once; yield the installation and what the demonstration printed."""
    installation = Installation(tmp_path_factory.mktemp("e2e"))
    try:
        printed = installation.done("demo")
        installation.apply_policy()
        yield installation, printed
    finally:
        installation.remove()


@pytest.fixture
def slipway(demo: tuple[Installation, str]) -> Installation:
    """The installation that the demonstration left running."""
    return demo[0]


@pytest.fixture(scope="session")
def containers(
    engine: docker.DockerClient, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    """An installation on containers that was brought up and has served nothing yet; destroyed at the end."""
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the engine is in no swarm; next: docker swarm init")
    if not shutil.which("terraform"):
        skip_without_containers("no terraform on the path")
    installation = Containers(tmp_path_factory.mktemp("containers"), engine)
    try:
        installation.done("up")
        yield installation
    finally:
        installation.remove()
