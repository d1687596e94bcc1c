"""Stopping the executor at a step is for tests alone."""

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.settings.settings import Settings
from pipelines.wiring.processes import TEST_MARK, planned_fault


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)})


def test_a_home_that_no_test_made_refuses_a_fault(settings: Settings) -> None:
    with pytest.raises(UsageError, match="a home made by the tests only"):
        planned_fault(settings, {"SLIPWAY_FAULT": "K5:kill"})
    planned_fault(settings, {})("K5")


def test_a_fault_that_is_none_is_refused_by_name(settings: Settings) -> None:
    (settings.home / TEST_MARK).touch()
    with pytest.raises(UsageError, match="'K5:stumble' is not STEP:kill or STEP:freeze"):
        planned_fault(settings, {"SLIPWAY_FAULT": "K5:stumble"})
    planned_fault(settings, {"SLIPWAY_FAULT": "K5:kill"})("K4")
