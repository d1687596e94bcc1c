"""Wake a greenlet at a moment: the event loop's timers have a grain of 1 ms, which would show as latency."""

import ctypes
import os
import time

import gevent

CLOCK_MONOTONIC = 1
ABSOLUTE = 1
NS_PER_S = 1_000_000_000
READABLE = 1


class Alarm:
    """Wait for moments of `time.monotonic()`: by a timerfd on Linux, elsewhere by the loop's own timers."""

    def __init__(self) -> None:
        """Take a timer in the hub of the calling thread."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int | None = None
        if hasattr(self._libc, "timerfd_create"):
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create failed")
            self._watcher = gevent.get_hub().loop.io(self._fd, READABLE)

    def wait_until(self, due_s: float) -> None:
        """Return at `due_s`, or after one turn of the event loop if that has passed: replies must be read.

        That turn needs no timer, whose setting costs as much as a reply where timers are a virtual machine's.
        """
        left_s = due_s - time.monotonic()
        if self._fd is None or left_s <= 0:
            gevent.sleep(max(0.0, left_s))
            return
        due_ns = int(due_s * NS_PER_S)
        setting = (ctypes.c_long * 4)(0, 0, due_ns // NS_PER_S, due_ns % NS_PER_S)
        if self._libc.timerfd_settime(self._fd, ABSOLUTE, setting, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
        gevent.get_hub().wait(self._watcher)
        os.read(self._fd, 8)

    def close(self) -> None:
        """Give the timer back; the alarm can't be used afterwards."""
        if self._fd is not None:
            self._watcher.close()
            os.close(self._fd)
            self._fd = None
