"""Runs a load run as a process of its own: `python -m loadtests.run`, which leaves files behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipelines.adapters.load.files import planned_s, read_result
from pipelines.errors import Undecided
from pipelines.ports import LoadRun, never_ending

# Exit codes of loadtests.run that leave a judged result behind.
JUDGED = (0, 3, 4)
# So often it is asked whether a run may go on.
CHECK_S = 0.5


class LoadProcess:
    """Fills ports.LoadRunner; `root` is the directory that holds loadtests/.

    `spare_s` is what a run may take beyond its phases with their warm-ups: start-up and judging.
    """

    def __init__(self, root: Path, *, spare_s: float = 120.0) -> None:
        self._root = root
        self._spare_s = spare_s

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        """Execute `plan`; the process is ended with its children when it outlives every look and wait."""
        workdir.mkdir(parents=True, exist_ok=True)
        rows_file, plan_file, out = workdir / "rows.json", workdir / "plan.json", workdir / "out"
        rows_file.write_text(json.dumps(rows))
        plan_file.write_text(json.dumps({**plan, "rows_file": str(rows_file), "via": "direct"}))
        limit_s = planned_s(plan) + self._spare_s
        result_file = out / "result.json"
        result_file.unlink(missing_ok=True)
        arguments = ["--plan", str(plan_file), "--out", str(out)]
        ended = _run_bounded(arguments, root=self._root, log=workdir / "load.log", limit_s=limit_s, check=check)
        if ended not in JUDGED or not result_file.exists():
            tail = "\n".join((workdir / "load.log").read_text().splitlines()[-5:])
            how = f"did not end within {limit_s:g} s" if ended is None else f"ended with {ended}"
            raise Undecided(f"the load run {how}: {tail}", next="fix what it names, then run it again")
        page = out / "report.html"
        return LoadRun(read_result(result_file), page.read_bytes() if page.exists() else b"")

    def remove_left(self) -> set[str]:
        """Find nothing: a run ends by itself with the process that asked for it."""
        return set()


@contextmanager
def launched(
    arguments: Sequence[str], *, root: Path, stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `loadtests.run` with these arguments; when the block ends, nothing of it is left.

    Its Locust processes would outlive it, were it killed: so it has a session of its own, which is ended as a whole.
    """
    command = [sys.executable, "-m", "loadtests.run", "--end-with-stdin", *arguments]
    # Nobody writes to this pipe: its end tells the load run that whoever asked for it has died.
    process = subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _run_bounded(
    arguments: Sequence[str], *, root: Path, log: Path, limit_s: float, check: Callable[[], None]
) -> int | None:
    """Run to the end and return the exit code, or None after ending a process that took too long."""
    deadline = time.monotonic() + limit_s
    with log.open("wb") as output, launched(arguments, root=root, stdout=output, stderr=output) as process:
        while (left_s := deadline - time.monotonic()) > 0:
            check()
            with suppress(subprocess.TimeoutExpired):
                return process.wait(min(CHECK_S, left_s))
        return None
