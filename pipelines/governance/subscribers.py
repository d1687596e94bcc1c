"""Readers of the events that remember their place: each gets every event, in order, at least once.

A place moves on only after its handler has returned, so a handler that is cut off gets the same event again and has
to bear that. One process at a time delivers: the executor.
"""

import logging
from collections.abc import Callable

from pipelines.domain.events import Event
from pipelines.domain.records import Subscriber
from pipelines.ports import Records

Handler = Callable[[Event], None]

_BATCH = 100

log = logging.getLogger("slipway.events")


class Subscriptions:
    """The subscribers of one installation, by name."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._handlers: dict[str, Handler] = {}

    def subscribe(self, name: str, handler: Handler) -> None:
        """Have `handler` called with each event that follows the last one `name` has dealt with.

        A new name begins with what happens from now on.
        """
        with self._records.write() as transaction:
            if not transaction.find(Subscriber, id=name):
                transaction.add(Subscriber(name, transaction.newest_event()))
        self._handlers[name] = handler

    def deliver(self) -> None:
        """Call every handler with the events that are new to it; one that fails gets them again the next time."""
        for name, handler in self._handlers.items():
            try:
                while self._deliver_batch(name, handler):
                    continue
            except Exception as error:
                # One that has a bug must not end the process that releases, which would meet the same event again.
                log.error("subscriber %s is behind: %r", name, error)

    def _deliver_batch(self, name: str, handler: Handler) -> bool:
        """Deliver what follows a subscriber's place; return whether there may be more."""
        place = self._records.get(Subscriber, name)
        events = self._records.events(after=place.seq, limit=_BATCH)
        for event in events:
            handler(event)
            with self._records.write() as transaction:
                transaction.change(place, seq=event.seq)
        return len(events) == _BATCH
