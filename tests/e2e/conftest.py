"""The installations of the end-to-end tests, one for each folder: the tests in it run on it one after the other."""

import shutil
from collections.abc import Iterator

import docker
import pytest

from tests.e2e.containers import Containers
from tests.e2e.installation import Installation, ask_for_less_load, clone
from tests.support.containers.needs import skip_without_containers
from tests.support.world.verbs import expect_registrations


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """Run `slipway demo` once, in a clone that asks for less load; yield the installation and what was printed."""
    expect_registrations()
    directory = tmp_path_factory.mktemp("e2e")
    project = clone(directory / "project")
    ask_for_less_load(project)
    installation = Installation(directory, SLIPWAY_PROJECT=str(project))
    try:
        printed = installation.done("demo")
        installation.apply_policy()
        yield installation, printed
    finally:
        installation.remove()


@pytest.fixture(scope="session")
def served(demo: tuple[Installation, str]) -> Installation:
    """The installation that the demonstration left running; production serves a version."""
    return demo[0]


@pytest.fixture(scope="session")
def containers(
    engine: docker.DockerClient, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    """An installation on containers that was brought up and has served nothing yet; destroyed at the end.

    Its project is a clone that asks for less load.
    """
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the engine is in no swarm; next: docker swarm init")
    if not shutil.which("terraform"):
        skip_without_containers("no terraform on the path")
    expect_registrations()
    directory = tmp_path_factory.mktemp("containers")
    project = clone(directory / "project")
    ask_for_less_load(project)
    installation = Containers(directory, engine, SLIPWAY_PROJECT=str(project))
    try:
        installation.done("up")
        yield installation
    finally:
        installation.remove()
