"""What every confined job is given and told, wherever it runs."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from pipelines.adapters.jobs.inside import OUT_OF_MEMORY, OUT_OF_THREADS, OUT_OF_TIME, TASK, TOO_MUCH
from pipelines.domain.texts import one_line
from pipelines.errors import JobFailed, UsageError
from pipelines.ports import JobBounds

PROGRAM = "pipelines.evaluation.job"
_LAUNCHER = "pipelines.adapters.jobs.inside"
# What a job may leave on a disk, all its files together.
MOST_WRITTEN_BYTES, MOST_WRITTEN_FILES = 64 << 20, 1000
_LAST_LINES, _LAST_CHARS = 5, 600
# One thread sums in one order, and no library reserves memory for threads that there are not.
QUIET = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


def command(python: str, program: str, bounds: JobBounds, *, starter: int | None = None) -> list[str]:
    """Return how a job is started; `starter` is this process, where no engine ends a job with all that it started."""
    limits = json.dumps({**asdict(bounds), "starter": starter})
    # Neither the directory that it stands in nor a user's own packages are places to import from.
    return [python, "-P", "-s", "-B", "-m", _LAUNCHER, program, limits]


def lay_out(folder: Path, task: bytes, files: Mapping[str, Path]) -> None:
    """Copy a job's files into a directory, under their names there."""
    check_places(files)
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / TASK).write_bytes(task)


def check_places(names: Iterable[str]) -> None:
    """Raise UsageError for a name of a job's file that leads out of its directory."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise UsageError(f"{name[:80]!r} is no place for a file of a job", next="name it by a relative path")


def broken(how: str, log: str) -> JobFailed:
    """Return the refusal of a job that met a bound, or ended without an answer, with its last words."""
    said = one_line(" | ".join(log.strip().splitlines()[-_LAST_LINES:])[-_LAST_CHARS:], 2 * _LAST_CHARS)
    return JobFailed(
        f"the confined job that reads its files {how}: {said}".removesuffix(": "),
        next="register a smaller or a plainer model, or raise evaluation.job_s and evaluation.job_memory_mb of the"
        " policy for this one",
    )


def too_long(bounds: JobBounds) -> str:
    """Say that a job took too long."""
    return f"took longer than {bounds.wall_s:g} s"


def too_large(bounds: JobBounds) -> str:
    """Say that a job needed too much memory."""
    return f"needed more than {bounds.memory_mb:,} MB of memory"


def too_many(bounds: JobBounds) -> str:
    """Say that a job started too many processes."""
    return f"started more than {bounds.processes} processes"


def too_much(bounds: JobBounds) -> str:
    """Say that an answer was too large."""
    return f"answered more than {bounds.answer_bytes:,} bytes"


def too_many_files() -> str:
    """Say that a job wrote too much, or where it can't be counted."""
    return f"wrote more than {MOST_WRITTEN_BYTES >> 20} MiB, or {MOST_WRITTEN_FILES:,} files"


def end_of(code: int, bounds: JobBounds) -> str | None:
    """Say which bound an exit code speaks of, None for any other end."""
    how = {
        OUT_OF_MEMORY: too_large(bounds),
        OUT_OF_TIME: too_long(bounds),
        OUT_OF_THREADS: too_many(bounds),
        TOO_MUCH: too_much(bounds),
    }
    return how.get(code)
