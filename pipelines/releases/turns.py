"""Load runs take turns: two at once would measure each other, whosever models they are of."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_S = 0.5


class LoadTurns:
    """The turns of one executor, which is the only one of its installation."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._whose = ""

    @contextmanager
    def turn(self, who: str, *, wait: Callable[[str], None], check: Callable[[], None]) -> Iterator[None]:
        """Have the turn for a block; those who wait get it in no certain order.

        `wait` is told once whose load run goes on, what `check` raises ends the wait.
        """
        told = False
        while not self._turn.acquire(timeout=_LOOK_S):
            if not told:
                wait(f"waiting for the load run of {self._whose}")
            told = True
            check()
        self._whose = who
        try:
            yield
        finally:
            self._turn.release()
