"""Where load runs get to an environment: through the edge, on a network that leads to that environment only."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.adapters.swarm.target import PORT
from pipelines.errors import Undecided
from pipelines.settings.terraform_outputs import StackOutputs


@dataclass(frozen=True)
class LoadFront:
    """The way to one slot: a network, by id or name, and the slot's URL on it."""

    network: str
    url: str


class LoadNetworks:
    """The ways of an installation, by the URLs that a target gives its slots."""

    def __init__(self, fronts: Mapping[str, LoadFront]) -> None:
        self._fronts = {**{front.url: front for front in fronts.values()}, **fronts}

    @classmethod
    def of_stack(cls, stack: StackOutputs) -> "LoadNetworks":
        """Return the front of each slot of each model, also by the URL of the slot's own service."""
        return cls(
            {
                f"http://{service.name}:{PORT}": LoadFront(environment.load_network, place.load_urls[slot])
                for environment in stack.environments.values()
                for place in (environment, *environment.models.values())
                for slot, service in place.slots.items()
            }
        )

    def front(self, url: str) -> LoadFront:
        """Return the way to `url`; raise Undecided when no load network leads there."""
        front = self._fronts.get(url.rstrip("/"))
        if front is None:
            known = ", ".join(sorted(self._fronts)) or "nothing"
            raise Undecided(f"no load network leads to {url}, only to {known}", next='run "make up"')
        return front
