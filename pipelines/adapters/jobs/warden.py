"""The parent of a confined job on one machine: what the job starts ends with it, also what has left its session.

It is the subreaper of all that descends from it (prctl(2)): whoever loses a parent becomes its child, and no other's.
It tells how the job ended only when nobody is left, ends all of them when it is told to, and with who started it.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

# The exit code of a job whose starter has died.
ABANDONED = 79
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_S = 0.01


def split_off(starter: int) -> None:
    """Go on as the job, in a session of its own, as the child of what this process was: that becomes its warden.

    `starter` is the process that this one was started by. Elsewhere than on Linux, what leaves its session is lost.
    """
    signal.signal(signal.SIGTERM, _told_to_end)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != starter:
        os._exit(ABANDONED)
    warden = os.getpid()
    job = os.fork()
    if job:
        _guard(job)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warden:
        os._exit(ABANDONED)
    os.setsid()


class _ToldToEnd(Exception):
    """Who started the job wants it ended, or has died."""


def _told_to_end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _ToldToEnd


def _guard(job: int) -> NoReturn:
    """Wait for the job, end what it has left, and end as it did."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        status = _reap_until(job)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except _ToldToEnd:
        status = signal.SIGKILL
    _end_all(job)
    if os.WIFSIGNALED(status):
        with suppress(OSError):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _reap_until(job: int) -> int:
    """Wait for everybody, until it is the job that has ended; return its status."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == job:
            return status


def _end_all(job: int) -> None:
    """Kill what is left until this process has no child: between a look and its end one may start others."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(job, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
            for pid in _descendants():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_S)


def _descendants() -> list[int]:
    """Return all that descends from this process, the children before their children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The command's name may hold spaces and parentheses.
            children.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
