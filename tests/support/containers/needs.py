"""How a test says that it can't run here for want of containers, or of what provisions and fills them."""

from typing import NoReturn

import pytest

CONTAINERS = "containers: "


def skip_without_containers(reason: str) -> NoReturn:
    """Skip a test; where only the local target is required (SLIPWAY_REQUIRE=local), that is no failure."""
    pytest.skip(CONTAINERS + reason)
