"""Wakes the open streams of an API process as soon as events were committed, by whichever process."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import TooManyStreams
from pipelines.ports import Listener, Records

_LOOK_S = 60.0
# Open streams, in all and of one person: what is open already goes on, and another is refused.
MOST = 200
MOST_OF_A_PERSON = 50


class Wake:
    """What one stream waits for; it is set at first, for what was committed while the stream began."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._event.set()

    def set(self) -> None:
        """Wake the stream, from any thread."""
        # A loop that has ended needs no waking.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something may have changed; return False after `timeout_s` without a sign of it."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True


class EventFeed:
    """One listener for all streams of the process, as long as there are any."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._streams: set[Wake] = set()
        self._open: Counter[str] = Counter()
        self._listening = False
        self._listener: Listener | None = None
        self.ended = False

    @contextmanager
    def admitted(self, person: str) -> Iterator[None]:
        """Let a person have a stream for the length of a block; raise TooManyStreams where there are enough."""
        with self._lock:
            if self._open[person] >= MOST_OF_A_PERSON:
                raise _too_many(f"{person} follows {MOST_OF_A_PERSON} streams of events already")
            if self._open.total() >= MOST:
                raise _too_many(f"{MOST} streams of events are open already")
            self._open[person] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[person] -= 1

    @contextmanager
    def joined(self) -> Iterator[Wake]:
        """Have a stream woken for the length of a block."""
        stream = Wake()
        with self._lock:
            self._streams.add(stream)
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, daemon=True).start()
        try:
            yield stream
        finally:
            with self._lock:
                self._streams.discard(stream)
                if not self._streams and self._listener:
                    self._listener.wake()

    def end(self) -> None:
        """Have every stream end: its client comes back to the next process."""
        self.ended = True
        with self._lock:
            for stream in self._streams:
                stream.set()

    def _listen(self) -> None:
        try:
            with contextlib.closing(self._records.listen()) as listener:
                while streams := self._waiting(listener):
                    # At first as well: what was committed before this listener was there.
                    for stream in streams:
                        stream.set()
                    listener.wait(_LOOK_S)
        except BaseException:
            # The next stream begins to listen anew.
            with self._lock:
                self._listening = False
            raise

    def _waiting(self, listener: Listener) -> list[Wake]:
        """Return the streams that wait; without any this listener is done, and the next stream takes another."""
        with self._lock:
            self._listener = listener
            self._listening = bool(self._streams)
            return list(self._streams)


def _too_many(what: str) -> TooManyStreams:
    return TooManyStreams(what, next="end some of them, or ask for the state without /events")
