"""Runs a load run as a process of its own: `python -m loadtests.run`, which leaves files behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipelines.adapters.load_files import planned_s
from pipelines.errors import Undecided
from pipelines.ports import LoadRun

# Exit codes of loadtests.run that leave a judged result behind.
JUDGED = (0, 3, 4)


class LoadProcess:
    """Fills ports.LoadRunner; `root` is the directory that holds loadtests/.

    `spare_s` is what a run may take beyond its stretches with their warm-ups: start-up and judging.
    """

    def __init__(self, root: Path, *, spare_s: float = 120.0) -> None:
        self._root = root
        self._spare_s = spare_s

    def run(self, plan: dict[str, Any], rows: list[dict[str, Any]], workdir: Path) -> LoadRun:
        """Execute `plan`; the process is ended with its children when it outlives every look and wait."""
        workdir.mkdir(parents=True, exist_ok=True)
        rows_file, plan_file, out = workdir / "rows.json", workdir / "plan.json", workdir / "out"
        rows_file.write_text(json.dumps(rows))
        plan_file.write_text(json.dumps({**plan, "rows_file": str(rows_file), "via": "direct"}))
        command = [sys.executable, "-m", "loadtests.run", "--end-with-stdin"]
        command += ["--plan", str(plan_file), "--out", str(out)]
        limit_s = planned_s(plan) + self._spare_s
        result_file = out / "result.json"
        result_file.unlink(missing_ok=True)
        ended = _run_bounded(command, cwd=self._root, log=workdir / "load.log", limit_s=limit_s)
        if ended not in JUDGED or not result_file.exists():
            tail = "\n".join((workdir / "load.log").read_text().splitlines()[-5:])
            raise Undecided(f"the load run ended with {ended}: {tail}", next="mend what it names, then run it again")
        page = out / "report.html"
        return LoadRun(json.loads(result_file.read_text()), page.read_bytes() if page.exists() else b"")

    def remove_left(self) -> set[str]:
        """Find nothing: a run ends by itself with the process that asked for it."""
        return set()


def _run_bounded(command: list[str], *, cwd: Path, log: Path, limit_s: float) -> int | None:
    """Run to the end and return the exit code, or None after ending a process that took too long."""
    with log.open("wb") as output:
        # Nobody writes to this pipe: its end tells the load run that the executor has died.
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end_session(process)
            if process.stdin:
                process.stdin.close()


def _end_session(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
