"""Runs a confined job as a child process of this machine, with limits of its own and nothing of this one's environment.

All that it starts ends with it, by its warden. What a process of the same user could still reach, it can reach:
containers keep more away.
"""

import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from pipelines.adapters.jobs.files import (
    MOST_WRITTEN_BYTES,
    MOST_WRITTEN_FILES,
    PROGRAM,
    QUIET,
    broken,
    command,
    end_of,
    lay_out,
    too_large,
    too_long,
    too_many,
    too_many_files,
    too_much,
)
from pipelines.adapters.jobs.inside import OUT_OF_THREADS
from pipelines.disk import remove_tree
from pipelines.errors import Undecided
from pipelines.ports import JobBounds, never_ending

logger = logging.getLogger(__name__)

LOOK_S = 0.25
# So long a warden may take to end everybody; then it has been stopped by one of them.
_END_S = 5.0
# And what the system itself can't end, such as a process that waits for a disk, for so long.
_LOST_S = 10.0
_LOG = "job.log"
_PART = 64 * 1024
_MIB = 1024 * 1024


class ProcessJobs:
    """Fills ports.JobRunner; `root` is the directory that holds the code, and each job has a new one below `place`."""

    def __init__(self, root: Path, place: Path, *, program: str = PROGRAM) -> None:
        self._root = root
        self._place = place
        self._program = program

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        """Run the program over copies of `files` and return what it answers; nothing of it is left afterwards."""
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._place))
        try:
            lay_out(folder, task, files)
            with self._started(folder, bounds) as (process, log):
                return _Watch(process, bounds, check, log, _Growth(folder)).await_answer()
        finally:
            _remove(folder)

    def remove_left(self) -> set[str]:
        """Remove the directories of jobs whose executor died; the jobs themselves have ended with it."""
        left = {path.name for path in self._place.glob("job-*")}
        for name in left:
            _remove(self._place / name)
        return left

    @contextmanager
    def _started(self, folder: Path, bounds: JobBounds) -> Iterator[tuple["subprocess.Popen[bytes]", BinaryIO]]:
        environ = {**QUIET, "PATH": os.defpath, "PYTHONPATH": str(self._root), "HOME": str(folder)}
        # Opened before the job begins and never again: what it may put in the place of the file is not looked at.
        with (folder / _LOG).open("xb+") as log:
            try:
                process = subprocess.Popen(
                    command(sys.executable, self._program, bounds, starter=os.getpid()),
                    cwd=folder,
                    env={**environ, "TMPDIR": str(folder)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise Undecided(f"no confined job can be started: {error}", next="mend that, then try again") from error
            with process:
                try:
                    yield process, log
                finally:
                    _end(process)


def _remove(folder: Path) -> None:
    try:
        # The job may have taken its own rights to it.
        folder.chmod(0o700)
        remove_tree(folder)
    except OSError as error:
        logger.warning("what a confined job has left resists: %s", error)


class _Watch:
    """One job while it runs."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        bounds: JobBounds,
        check: Callable[[], None],
        log: BinaryIO,
        growth: "_Growth",
    ) -> None:
        self._process = process
        self._bounds = bounds
        self._check = check
        self._log = log
        self._growth = growth
        self._answer = bytearray()

    def await_answer(self) -> bytes:
        """Return the answer; raise JobFailed for a bound that was met, and what `check` raises."""
        assert self._process.stdout is not None
        deadline, look_at = time.monotonic() + self._bounds.wall_s, 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(LOOK_S):
                    part = os.read(self._process.stdout.fileno(), _PART)
                    if not part:
                        break
                    self._answer += part
                now = time.monotonic()
                if now > deadline:
                    raise self._failure(too_long(self._bounds))
                if len(self._answer) > self._bounds.answer_bytes:
                    raise self._failure(too_much(self._bounds))
                if now >= look_at:
                    look_at = now + LOOK_S
                    self._look()
        return self._ended(deadline)

    def _look(self) -> None:
        self._check()
        family = _family(self._process.pid)
        if len(family) > self._bounds.processes:
            raise self._failure(too_many(self._bounds))
        if sum(map(_resident, family)) > self._bounds.memory_mb * _MIB:
            raise self._failure(too_large(self._bounds))
        if self._growth.too_much():
            raise self._failure(too_many_files())

    def _ended(self, deadline: float) -> bytes:
        try:
            code = self._process.wait(max(LOOK_S, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failure(too_long(self._bounds)) from None
        if code == -signal.SIGXCPU:
            raise self._failure(f"used a processor for more than {self._bounds.wall_s:g} s")
        if code == OUT_OF_THREADS:
            # All processes of this user count together: this says nothing of the job's files.
            raise Undecided(
                "the confined job could start no more threads or processes: this user has too many of them",
                next="end what is not needed, or raise the limit of processes; then try again",
            )
        if code:
            ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            raise self._failure(end_of(code, self._bounds) or ended)
        return bytes(self._answer)

    def _failure(self, how: str) -> Exception:
        size = os.fstat(self._log.fileno()).st_size
        last = os.pread(self._log.fileno(), _PART, max(0, size - _PART))
        return broken(how, last.decode(errors="replace"))


class _Growth:
    """How much a job has written into its directory since it was laid out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        laid_out = list(_entries(folder))
        self._most_bytes = sum(laid_out) + MOST_WRITTEN_BYTES
        self._most_files = len(laid_out) + MOST_WRITTEN_FILES

    def too_much(self) -> bool:
        """Whether it is more than the bounds; what can't be looked at is."""
        total = 0
        try:
            for count, size in enumerate(_entries(self._folder), start=1):
                total += size
                if count > self._most_files or total > self._most_bytes:
                    return True
        except OSError:
            return True
        return False


def _entries(folder: Path) -> Iterator[int]:
    """Yield the size of each file and directory below one, 0 for those that have gone meanwhile."""
    left = [os.fspath(folder)]
    while left:
        with suppress(FileNotFoundError), os.scandir(left.pop()) as found:
            for entry in found:
                size = 0
                with suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                yield size


def _family(warden: int) -> list[psutil.Process]:
    """Return the job and all that it started, without its warden and those that have ended."""
    try:
        children = psutil.Process(warden).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in children if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _end(warden: "subprocess.Popen[bytes]") -> None:
    """Have the warden end all that is left of a job; where it can't, because it was stopped, do it in its place."""
    warden.terminate()
    with suppress(subprocess.TimeoutExpired):
        warden.wait(_END_S)
    deadline = time.monotonic() + _LOST_S
    while (left := _family(warden.pid)) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=LOOK_S)
    if left:
        logger.error("a confined job can't be ended: processes %s", ", ".join(str(process.pid) for process in left))
    warden.kill()
    warden.wait()
