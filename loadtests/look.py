"""Run one stretch of load as Locust processes and hand back its raw files; a run without them is an error."""

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.personas import ONLY_SINGLE, Mix
from loadtests.plan import Plan
from loadtests.shapes import STEADY, Shape

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
SPARE_S = 30
START_S = 5.0
POLL_S = 0.1
PROGRESS_EVERY_S = 4.0
LOG_LINES = 5


class LoadError(Exception):
    """The load could not be run or measured; the message says what stopped it."""


class StoppedError(Exception):
    """The caller ended the run, or died."""


class Caller:
    """Who asked for the run: hears of its progress on stderr, and may end it.

    A signal's handler only sets `stop`: raising there could strike between a process and the note to end it.
    """

    def __init__(self) -> None:
        """Begin with nobody having asked for the end."""
        self.stop = threading.Event()

    def say(self, line: str) -> None:
        """Tell of the progress."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def wait(self, seconds: float) -> None:
        """Let time pass; raise StoppedError once the caller has asked for the end."""
        if self.stop.wait(seconds):
            raise StoppedError


@dataclass(frozen=True)
class Stretch:
    """One stretch of load at a host; `number` seeds it: 0 for the control run, the look's, or a comparison's.

    With a `champion`, both hosts are loaded in turn: in each of `blocks` blocks one turn of both times at either.
    """

    name: str
    number: int
    host: str
    warmup_s: float
    duration_s: float
    shape: Shape = STEADY
    mix: Mix = ONLY_SINGLE
    champion: str = ""
    blocks: int = 0

    @property
    def length_s(self) -> float:
        """Return the seconds of all turns together, those to warm up included."""
        return (self.warmup_s + self.duration_s) * max(1, 2 * self.blocks)


def run_stretch(plan: Plan, stretch: Stretch, *, out: Path, caller: Caller) -> list[Path]:
    """Run the plan's workers against the stretch's host; raise LoadError when one fails or hangs.

    The workers have ended when this returns or raises.
    """
    prefix = stretch.name.replace(" ", "")
    raws = [out / f"{prefix}-worker{index}.parquet" for index in range(plan.workers)]
    # Workers that take turns have to keep step, and Locust takes a while to start.
    begin_at_s = time.monotonic() + START_S if stretch.blocks and plan.workers > 1 else 0.0
    with ExitStack() as stack:
        processes = []
        for index, raw in enumerate(raws):
            raw.unlink(missing_ok=True)
            log = stack.enter_context(raw.with_suffix(".log").open("wb"))
            command = [*_command(plan, stretch, raw=raw, index=index), f"--begin-at={begin_at_s}"]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=LOCUSTFILE.parent.parent
            )
            stack.callback(_end, process)
            processes.append(process)
        _wait(processes, stretch, raws=raws, timeout_s=plan.timeout_s, caller=caller)
    for raw, process in zip(raws, processes, strict=True):
        if not raw.exists():
            log_end = raw.with_suffix(".log").read_text(errors="replace").splitlines()[-LOG_LINES:]
            ended = f"Locust wrote no raw values (exit code {process.returncode})"
            raise LoadError(f"{stretch.name}: {ended}: {' | '.join(log_end)}")
        raw.with_suffix(".progress").unlink(missing_ok=True)
    return raws


def _command(plan: Plan, stretch: Stretch, *, raw: Path, index: int) -> list[str]:
    """Give each worker an equal part of the rate and a seed of its own."""
    seed = int(np.random.SeedSequence([plan.seed, stretch.number, index]).generate_state(1)[0])
    options = {
        "--host": stretch.host,
        "--path": plan.path,
        "--rows-file": plan.rows_file.resolve(),
        "--rate": plan.rate_per_s / plan.workers,
        "--arrivals": plan.arrivals,
        "--seed": seed,
        "--warmup": stretch.warmup_s,
        "--duration": stretch.duration_s,
        "--timeout": plan.timeout_s,
        "--max-in-flight": plan.max_in_flight // plan.workers,
        "--shape": stretch.shape.as_text(),
        "--mix": ",".join(f"{persona}={weight}" for persona, weight in stretch.mix),
        "--champion": stretch.champion,
        "--blocks": stretch.blocks,
        "--raw-file": raw.resolve(),
        "--users": 1,
    }
    words = [f"{option}={value}" for option, value in options.items()]
    locust = [sys.executable, "-m", "locust", f"--locustfile={LOCUSTFILE}"]
    return [*locust, "--headless", "--only-summary", *words]


def _wait(
    processes: list[subprocess.Popen[bytes]],
    stretch: Stretch,
    *,
    raws: list[Path],
    timeout_s: float,
    caller: Caller,
) -> None:
    deadline_s = time.monotonic() + stretch.length_s + timeout_s + SPARE_S
    began_s: float | None = None
    shown_s = time.monotonic()
    while any(process.poll() is None for process in processes):
        now_s = time.monotonic()
        if now_s > deadline_s:
            raise LoadError(f"{stretch.name}: Locust did not end within {SPARE_S} s of its time")
        if began_s is None and raws[0].with_suffix(".progress").exists():
            began_s = now_s
        if began_s is not None and now_s - shown_s >= PROGRESS_EVERY_S:
            shown_s = now_s
            caller.say(_progress(stretch, raws, now_s - began_s))
        caller.wait(POLL_S)


def _progress(stretch: Stretch, raws: list[Path], passed_s: float) -> str:
    files = [raw.with_suffix(".progress") for raw in raws]
    counts = [json.loads(file.read_bytes()) for file in files if file.exists()]
    sent, errors = (sum(count[key] for count in counts) for key in ("sent", "errors"))
    if stretch.blocks:
        block = min(stretch.blocks, 1 + int(passed_s / stretch.length_s * stretch.blocks))
        where = f"block {block} of {stretch.blocks}"
    elif passed_s < stretch.warmup_s:
        where = "warming up"
    else:
        where = f"{min(passed_s - stretch.warmup_s, stretch.duration_s):.0f} s of {stretch.duration_s:g} s"
    return f"{stretch.name}: {where}, {sent:,} sent, {errors:,} errors"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
