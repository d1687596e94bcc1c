"""Something that is done again and again beside a block, such as killing whatever starts meanwhile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def again_and_again(act: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `act` every so many seconds while the block runs, in a thread that has ended after it."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
