"""One installation a session and target, on which the demonstration has run.

The files of one installation go on where the one before ended, so beside each other run installations, not files.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.e2e.containers import Containers
from tests.e2e.installation import Installation
from tests.needs import skip_without_containers

ON_LOCAL = "local"
INSTALLATIONS = {
    "test_1_way_of_a_version.py": ON_LOCAL,
    "test_2_bad_input.py": ON_LOCAL,
    "test_4_slower_versions.py": ON_LOCAL,
}


class _ByInstallation(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each installation's tests to one process, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).name
        return INSTALLATIONS.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByInstallation(config, log)


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
