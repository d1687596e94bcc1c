"""The API that these tests ask."""

from tests.support.world.api import api

__all__ = ["api"]
