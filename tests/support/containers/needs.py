"""How a test says that it can't run here for want of containers, of what provisions and fills them, or of an extra."""

from typing import NoReturn

import pytest

CONTAINERS = "containers: "
BOOSTING = "boosting: "


def skip_without_containers(reason: str) -> NoReturn:
    """Skip a test; where only the local target is required (SLIPWAY_REQUIRE=local), that is no failure."""
    pytest.skip(CONTAINERS + reason)


def skip_without_boosting() -> NoReturn:
    """Skip a test of the optional libraries; where only the local target is required, that is no failure."""
    pytest.skip(f"{BOOSTING}requirements/boosting.txt is not installed")
