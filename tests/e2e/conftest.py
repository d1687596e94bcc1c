"""The installations of the end-to-end tests, one for each folder: the tests in it run on it one after the other."""

import shutil
from collections.abc import Iterator

import docker
import pytest

from tests.e2e.containers import Containers
from tests.e2e.installation import Installation, clone
from tests.support.containers.needs import skip_without_containers


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """Run `slipway demo` once; yield the installation and what the demonstration printed."""
    installation = Installation(tmp_path_factory.mktemp("e2e"))
    try:
        printed = installation.done("demo")
        installation.apply_policy()
        yield installation, printed
    finally:
        installation.remove()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that serves version 1 in production, trained in a clone of its own."""
    directory = tmp_path_factory.mktemp("served")
    installation = Installation(directory, tree=clone(directory / "project"))
    try:
        installation.done("up")
        installation.apply_policy()
        installation.first_version()
        yield installation
    finally:
        installation.remove()


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
