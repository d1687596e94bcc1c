"""The world that the tests of the workflows share."""

from tests.support.world.world import plants_home, world

__all__ = ["plants_home", "world"]
