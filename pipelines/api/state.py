"""What the routes of the API work with."""

from dataclasses import dataclass
from functools import cached_property

from pipelines.api.feed import EventFeed
from pipelines.api.guard import Turns
from pipelines.ports import Checkpoints, Records, VersionList


@dataclass(frozen=True)
class ApiState:
    """What the routes work with; `model` is the default one, `tokens` maps person -> token."""

    records: Records
    checkpoints: Checkpoints
    versions: VersionList
    model: str
    tokens: dict[str, str]

    @cached_property
    def feed(self) -> EventFeed:
        """What wakes the open streams."""
        return EventFeed(self.records)

    @cached_property
    def turns(self) -> Turns:
        """Whose requests are answered."""
        return Turns()
