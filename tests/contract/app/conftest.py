"""The replica that these tests ask."""

from tests.support.world.service import bundle, client, replica

__all__ = ["bundle", "client", "replica"]
