"""What holds for every test: in CI, where everything a test needs is installed, a skip is a failure."""

import os
from collections.abc import Generator

import pytest

from tests.engine import engine, images, network
from tests.object_store import minio, store
from tests.postgres import postgres
from tests.servers import mlflow_uri

__all__ = ["engine", "images", "minio", "mlflow_uri", "network", "postgres", "store"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("SLIPWAY_REQUIRE") == "all" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but SLIPWAY_REQUIRE=all: {report.longrepr}"
    return report
