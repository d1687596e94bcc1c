"""Who asked for a load run: hears of it, may end it, and is told what stopped it."""

import sys
import threading


class LoadError(Exception):
    """The load could not be run or measured; the message says what stopped it."""


class StoppedError(Exception):
    """The caller ended the run, or died."""


class Caller:
    """Who asked for the run: hears of its progress on stderr, and may end it.

    A signal's handler only sets `stop`: raising there could strike between a process and the note to end it.
    """

    def __init__(self) -> None:
        """Begin with nobody having asked for the end."""
        self.stop = threading.Event()

    def say(self, line: str) -> None:
        """Tell of the progress."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def wait(self, seconds: float) -> None:
        """Let time pass; raise StoppedError once the caller has asked for the end."""
        if self.stop.wait(seconds):
            raise StoppedError
