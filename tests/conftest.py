"""What holds for every test: where SLIPWAY_REQUIRE says what this machine can run, a skip is a failure.

`all` is everything; `local` is everything but what needs containers, or what provisions and fills them.
"""

import os
import signal
from collections.abc import Generator

import pytest

from tests.support.containers.engine import engine, images, network, remove_what_is_left
from tests.support.containers.needs import CONTAINERS
from tests.support.containers.swarm import image_registry, swarm
from tests.support.servers.object_store import minio, store
from tests.support.servers.postgres import postgres
from tests.support.servers.servers import end_shared_servers, mlflow_uri, share_servers

__all__ = ["engine", "image_registry", "images", "minio", "mlflow_uri", "network", "postgres", "store", "swarm"]


def pytest_configure(config: pytest.Config) -> None:
    if not _is_beside_others(config):
        share_servers()
    # Who starts the tests in the background has them, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
    excused = required == "local" and f"Skipped: {CONTAINERS}" in str(report.longrepr)
    if report.skipped and required and not excused and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but SLIPWAY_REQUIRE={required}: {report.longrepr}"
    return report
