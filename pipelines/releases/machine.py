"""What this machine itself tells of times and processes: marks that no step of its clock on the wall moves."""

import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil


def boot_clock() -> tuple[str, float]:
    """Return which start of this machine it is, and the seconds since, for all its containers the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
    except OSError:
        # Where there is no such file, the monotonic clock counts from the start.
        return f"{socket.gethostname()}:boot", time.monotonic()


def born_s(process: psutil.Process) -> float:
    """Return the seconds from the start of this machine to that of a process; raise psutil.NoSuchProcess."""
    # Both are told by the clock on the wall of this moment, and a step moves both.
    return process.create_time() - psutil.boot_time()


@dataclass(frozen=True)
class Moment:
    """When something happened: by the clock on the wall, and by that of its machine's start `boot_id`."""

    at: str
    boot_id: str | None = None
    boot_s: float | None = None

    @classmethod
    def present(cls, now: str) -> "Moment":
        """Return this moment, which the clock on the wall calls `now`."""
        return cls(now, *boot_clock())

    def ago_here_s(self) -> float | None:
        """Return the seconds since by this machine's clock, None for a moment that was told by another clock."""
        boot_id, boot_s = boot_clock()
        return boot_s - self.boot_s if self.boot_s is not None and self.boot_id == boot_id else None

    def ago_s(self, now: str) -> float:
        """Return the seconds since; for a moment on another machine, or of an earlier start, by the clocks on walls."""
        here_s = self.ago_here_s()
        if here_s is not None:
            return here_s
        return (datetime.fromisoformat(now) - datetime.fromisoformat(self.at)).total_seconds()
