"""What holds for every test: where SLIPWAY_REQUIRE says what this machine can run, a skip is a failure.

`all` is everything; `local` is everything but what needs containers, what provisions and fills them, or an extra.
"""

import os
import signal
from collections.abc import Generator
from pathlib import PurePath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.containers.engine import engine, images, network, remove_what_is_left
from tests.support.containers.needs import BOOSTING, CONTAINERS
from tests.support.containers.swarm import image_registry, swarm
from tests.support.servers.object_store import minio, store
from tests.support.servers.postgres import postgres
from tests.support.servers.servers import end_shared_servers, mlflow_uri, share_servers

__all__ = ["engine", "image_registry", "images", "minio", "mlflow_uri", "network", "postgres", "store", "swarm"]


TURNS = (
    "tests/e2e/on_containers",
    "tests/e2e/on_processes",
    "tests/integration/test_load_run.py",
    "tests/integration",
)


def pytest_configure(config: pytest.Config) -> None:
    if not _is_beside_others(config):
        share_servers()
    # Who starts the tests in the background has them, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class OneInstallationAtATime(LoadFileScheduling):
    """Runs a file by one process, and a whole folder of end-to-end tests, which share an installation."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return str(PurePath(file).parent) if _folder(file) == "e2e" else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneInstallationAtATime:
    return OneInstallationAtATime(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no process is alone with it."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return next((turn for turn, start in enumerate(TURNS) if item.nodeid.startswith(start)), len(TURNS))


def _folder(nodeid: str) -> str:
    """Return the folder of tests that a test is in, such as `unit`."""
    return PurePath(nodeid.partition("::")[0]).parts[1]


@pytest.fixture(autouse=True)
def _same_environment() -> Generator[None]:
    """Put back what a test sets for its whole process, as the limits of MLflow's calls are."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    remove_what_is_left()
    if not _is_beside_others(session.config):
        end_shared_servers()


def _is_beside_others(config: pytest.Config) -> bool:
    """Tell whether this process is one of those that xdist started."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = os.environ.get("SLIPWAY_REQUIRE")
    excused = required == "local" and any(f"Skipped: {why}" in str(report.longrepr) for why in (CONTAINERS, BOOSTING))
    if report.skipped and required and not excused and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but SLIPWAY_REQUIRE={required}: {report.longrepr}"
    return report
