"""Ends a replica's process when its event loop no longer turns, as when a row keeps the model busy for ever.

Nobody else can: what hangs in native code hears no signal and answers no health check. Whoever waits for an answer is
told, so that no edge in front asks the next replica the same. gunicorn's master starts another worker.
"""

import os
import threading
from collections.abc import Callable

# Turns of the watch, which are counted and not measured: a machine that stood still makes nobody late.
TURN_S = 0.5
TURNS = 10
STUCK_STATUS = 70


class Watchdog(threading.Thread):
    """Calls `last_words` and ends the process when `signs` has not changed for five seconds."""

    def __init__(self, signs: Callable[[], int], last_words: Callable[[], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._signs = signs
        self._last_words = last_words
        self._ended = threading.Event()

    def run(self) -> None:
        """Watch until `end`."""
        seen, turns = self._signs(), 0
        while not self._ended.wait(TURN_S):
            signs = self._signs()
            turns = turns + 1 if signs == seen else 0
            seen = signs
            if turns >= TURNS:
                try:
                    self._last_words()
                finally:
                    os._exit(STUCK_STATUS)

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()
