"""Readers of the events that remember their place: each gets every event, in order, at least once.

A place moves on only after its handler has returned, so a handler that is cut off gets the same event again and has
to bear that. One process at a time delivers: the executor.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pipelines.domain.events import Event, EventKind
from pipelines.domain.records import Subscriber as Place
from pipelines.errors import LostLease
from pipelines.ports import Records

Handler = Callable[[Event], None]

_BATCH = 100

log = logging.getLogger("slipway.events")


@dataclass(frozen=True)
class Subscriber:
    """Is told of events: of these kinds, or of all."""

    handler: Handler
    kinds: Collection[EventKind] = ()


class Subscriptions:
    """The subscribers of one installation, by name."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._subscribers: dict[str, Subscriber] = {}

    def subscribe(self, name: str, subscriber: Subscriber) -> None:
        """Have a subscriber told of each event that follows the last one `name` has dealt with.

        A new name begins with what happens from now on.
        """
        with self._records.write() as transaction:
            if not transaction.find(Place, id=name):
                transaction.add(Place(name, transaction.newest_event()))
        self._subscribers[name] = subscriber

    def deliver(self, *, beat: Callable[[], None] = lambda: None) -> None:
        """Call every handler with the events that are new to it; one that fails gets them again the next time.

        `beat` is called before each event: many may take long. Raises the LostLease that `beat` raises.
        """
        for name, subscriber in self._subscribers.items():
            try:
                while self._deliver_batch(name, subscriber, beat):
                    continue
            except LostLease:
                raise
            except Exception as error:
                # One that has a bug must not end the process that releases, which would meet the same event again.
                log.error("subscriber %s is behind: %r", name, error)

    def _deliver_batch(self, name: str, subscriber: Subscriber, beat: Callable[[], None]) -> bool:
        """Deliver what follows a subscriber's place; return whether there may be more."""
        place = self._records.get(Place, name)
        events = self._records.events(after=place.seq, kinds=subscriber.kinds, limit=_BATCH)
        for event in events:
            beat()
            subscriber.handler(event)
            with self._records.write() as transaction:
                transaction.change(place, seq=event.seq)
        return len(events) == _BATCH
