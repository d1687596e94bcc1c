"""Where a confined job begins: it gives up what it does not need, and only then is a file of a stranger opened.

`python -P -m pipelines.adapters.jobs.inside PROGRAM LIMITS`, started in the directory of the job's files. PROGRAM is a
module with `carry_out(task, place)`; what that returns is all that is written to the standard output.
"""

import importlib
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.adapters.jobs.warden import ABANDONED, split_off

# Exit codes that say which bound was met.
OUT_OF_MEMORY, OUT_OF_TIME, TOO_MUCH = 77, 78, 80
# The system let it start no more threads or processes.
OUT_OF_THREADS = 81
TASK = "task.json"
# Longer than who started it waits: then that has died.
_SPARE_S = 5.0
_FILE_BYTES = 1024 * 1024
_OPEN_FILES = 256
# What else this user may start beside a job: the system counts that together with what the job starts.
_THREADS_BESIDE = 1024
_MIB = 1024 * 1024
# What serves, or is measured under load, on the same processors goes first: against it a job has about a third.
_GIVES_WAY = 5
_AUTOGROUP = Path("/proc/self/autogroup")
# As Python says it, which has no class of its own for it.
_NO_THREAD = "can't start new thread"


def main() -> None:
    """Confine this process, run the program, and write its answer."""
    program, limits = sys.argv[1], json.loads(sys.argv[2])
    # Whatever else is printed, by whichever library, is no part of the answer.
    answer = os.dup(1)
    try:
        if limits["starter"]:
            split_off(limits["starter"])
        os.dup2(2, 1)
        _confine(limits)
        content = importlib.import_module(program).carry_out(Path(TASK).read_bytes(), Path.cwd())
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except (BlockingIOError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _NO_THREAD not in str(error):
            raise
        os.write(2, f"{error}\n".encode())
        os._exit(OUT_OF_THREADS)
    if len(content) > limits["answer_bytes"]:
        # What keeps an answer for its reader may keep the end of it only.
        os._exit(TOO_MUCH)
    with os.fdopen(answer, "wb") as out:
        out.write(content)
    os._exit(0)


def _confine(limits: dict[str, Any]) -> None:
    wall_s = float(limits["wall_s"]) + _SPARE_S
    _give_way()
    # A hard end, for the first process of a container as well, which ignores the signal of the soft one.
    _lower(resource.RLIMIT_CPU, math.ceil(limits["wall_s"]), spare=2)
    _lower(resource.RLIMIT_DATA, int(limits["memory_mb"]) * _MIB)
    _lower(resource.RLIMIT_FSIZE, _FILE_BYTES)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)
    if limits["starter"]:
        # Only what ends a bomb: who watches the job counts its own processes.
        _lower(resource.RLIMIT_NPROC, _running() + int(limits["processes"]) + _THREADS_BESIDE)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, wall_s)
    threading.Thread(target=_end_late, args=(wall_s,), daemon=True).start()
    if limits["starter"]:
        threading.Thread(target=_end_with_starter, daemon=True).start()


def _give_way() -> None:
    os.nice(_GIVES_WAY)
    # A kernel that shares processors between sessions first asks for the weight of this one, which the job leads.
    with suppress(OSError):
        _AUTOGROUP.write_text(str(_GIVES_WAY))


def _lower(kind: int, limit: int, *, spare: int = 0) -> None:
    _, hard = resource.getrlimit(kind)
    wanted = limit + spare
    hard = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(kind, (min(limit, hard), hard))


def _running() -> int:
    """Count the threads of this user, which its limit of processes counts; 0 where the system does not tell."""
    me, count = os.getuid(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == me:
                count += len(os.listdir(process / "task"))
        except OSError:
            continue
    return count


def _end_late(wall_s: float) -> None:
    time.sleep(wall_s)
    os._exit(OUT_OF_TIME)


def _end_with_starter() -> None:
    """Nobody writes to the standard input: its end says that who started this job has died."""
    # Without Python's own reader, whose lock an ending interpreter would wait for.
    os.read(0, 1)
    os._exit(ABANDONED)


if __name__ == "__main__":
    main()
