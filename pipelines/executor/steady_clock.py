"""A clock to remove by: one that was set forward counts only after it has stood so for a day.

What is removed does not come back, and a clock that is wrong is put right sooner or later.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

# More than so far ahead of the time that has passed, a clock was set, or the machine was off; so long it has to stand.
STANDS_S = 24 * 3600.0

log = logging.getLogger("slipway.clock")


class SteadyClock:
    """Reads the clock `now`, which said `known` when Slipway last ran; `elapsed` counts seconds that nobody can set."""

    def __init__(
        self, now: Callable[[], str], *, known: str | None, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._now, self._elapsed = now, elapsed
        self._trusted = datetime.fromisoformat(known or now())
        self._trusted_s = elapsed()
        self._ahead_since_s: float | None = None

    def read(self) -> datetime:
        """Return the time, which goes on from the last one that was trusted while the clock is ahead of it."""
        told, at_s = datetime.fromisoformat(self._now()), self._elapsed()
        expected = self._trusted + timedelta(seconds=at_s - self._trusted_s)
        if (told - expected).total_seconds() > STANDS_S:
            if self._ahead_since_s is None:
                self._ahead_since_s = at_s
                log.warning("the clock is %s ahead: what it makes old is removed a day from now", told - expected)
            if at_s - self._ahead_since_s < STANDS_S:
                return expected
        self._trusted, self._trusted_s, self._ahead_since_s = told, at_s, None
        return told
