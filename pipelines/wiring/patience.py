"""Waits, at the start of a process, for what another process that starts at the same time has yet to make ready."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.errors import SlipwayError

T = TypeVar("T")


def wait_out(
    action: Callable[[], T],
    lacking: type[SlipwayError],
    what: str,
    *,
    log: logging.Logger,
    patience_s: float,
    poll_s: float,
    show_life: Callable[[], None] = lambda: None,
) -> T:
    """Return what `action` does once it no longer raises `lacking`; after `patience_s` raise that, at once all else.

    What is waited for is logged once, as `what`. Calls `show_life` meanwhile.
    """
    deadline, told = time.monotonic() + patience_s, False
    while True:
        try:
            return action()
        except lacking as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                log.warning("%s: waiting up to %g s for %s", error.message, patience_s, what)
            told = True
        show_life()
        time.sleep(poll_s)
