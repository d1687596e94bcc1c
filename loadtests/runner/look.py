"""Run one stretch of load as Locust processes and hand back its raw files; a run without them is an error."""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.plan.personas import ONLY_SINGLE, Mix
from loadtests.plan.plan import Plan
from loadtests.plan.shapes import STEADY, Shape
from loadtests.runner.join import LOCUST

ROOT = Path(__file__).parents[2]
SPARE_S = 30
LEG_SPARE_S = 1
POLL_S = 0.1
PROGRESS_EVERY_S = 4.0
LOG_LINES = 5
LOGGED_ERROR = re.compile(r"/ERROR/\S+: (.*)")


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
class Leg:
    """A part of a stretch; those of the same `number` are sent the same requests at the same offsets."""

    number: int
    host: str
    warmup_s: float
    duration_s: float


@dataclass(frozen=True)
class Stretch:
    """One stretch of load at a host, or in `legs` of its own, which together last `duration_s`.

    `number` is 0 for the control run, else the look's.
    """

    name: str
    number: int
    host: str
    warmup_s: float
    duration_s: float
    shape: Shape = STEADY
    mix: Mix = ONLY_SINGLE
    legs: tuple[Leg, ...] = ()


def run_stretch(plan: Plan, stretch: Stretch, *, out: Path, caller: Caller) -> list[Path]:
    """Run the plan's workers against the stretch's host; raise LoadError when one fails or hangs.

    The workers of this machine have ended when this returns or raises; those of others wait for the next stretch.
    """
    prefix = stretch.name.replace(" ", "")
    raws = [out / f"{prefix}-worker{index}.parquet" for index in range(plan.workers)]
    # Workers of other machines have one process here: their master, which writes the raw files of all.
    written = {out / f"{prefix}.parquet": raws} if plan.join else {raw: [raw] for raw in raws}
    with ExitStack() as stack:
        for raw in raws:
            raw.unlink(missing_ok=True)
        processes = []
        for index, file in enumerate(written):
            log = stack.enter_context(file.with_suffix(".log").open("wb"))
            command = _command(plan, stretch, raw=file, index=index)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
            stack.callback(_end, process)
            processes.append(process)
        _wait(processes, stretch, raws=list(written), limit_s=_limit_s(plan, stretch), caller=caller)
    for file, process in zip(written, processes, strict=True):
        if not all(raw.exists() for raw in written[file]):
            ended = f"Locust wrote no raw values (exit code {process.returncode})"
            raise LoadError(f"{stretch.name}: {ended}: {_why(file.with_suffix('.log'))}")
        file.with_suffix(".progress").unlink(missing_ok=True)
    return raws


def _why(log: Path) -> str:
    """Return the errors that Locust logged, else its last lines."""
    text = log.read_text(errors="replace")
    return " | ".join(LOGGED_ERROR.findall(text) or text.splitlines()[-LOG_LINES:])


def _command(plan: Plan, stretch: Stretch, *, raw: Path, index: int) -> list[str]:
    """Give each worker an equal part of the rate; each of this machine has a seed of its own."""
    seed = _seed(plan, stretch.number, index)
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
        "--raw-file": raw.resolve(),
        "--users": 1,
    }
    if plan.join:
        options |= {
            "--users": plan.workers,
            "--spawn-rate": plan.workers,
            "--expect-workers": plan.workers,
            "--expect-workers-max-wait": plan.join.wait_s,
            "--master-bind-port": plan.join.port,
        }
    if stretch.legs:
        legs = [
            {"host": leg.host, "warmup_s": leg.warmup_s, "duration_s": leg.duration_s,
             "seed": _seed(plan, stretch.number, index, leg.number)}
            for leg in stretch.legs
        ]  # fmt: skip
        legs_file = raw.with_suffix(".legs.json")
        legs_file.write_text(json.dumps(legs))
        options["--legs-file"] = legs_file.resolve()
    words = [f"{option}={value}" for option, value in options.items()]
    joined = ["--master", "--gather"] if plan.join else []
    return [*LOCUST, "--headless", "--only-summary", *joined, *words]


def _seed(plan: Plan, *numbers: int) -> int:
    return int(np.random.SeedSequence([plan.seed, *numbers]).generate_state(1)[0])


def _limit_s(plan: Plan, stretch: Stretch) -> float:
    # Each leg waits for its last replies before the next one begins.
    waits_s = plan.timeout_s + (plan.timeout_s + LEG_SPARE_S) * len(stretch.legs)
    joins_s = plan.join.wait_s if plan.join else 0
    return joins_s + stretch.warmup_s + stretch.duration_s + waits_s + SPARE_S


def _wait(
    processes: list[subprocess.Popen[bytes]],
    stretch: Stretch,
    *,
    raws: list[Path],
    limit_s: float,
    caller: Caller,
) -> None:
    deadline_s = time.monotonic() + limit_s
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
            caller.say(_progress(stretch, raws, now_s - began_s - stretch.warmup_s))
        caller.wait(POLL_S)


def _progress(stretch: Stretch, raws: list[Path], measured_s: float) -> str:
    files = [raw.with_suffix(".progress") for raw in raws]
    counts = [json.loads(file.read_bytes()) for file in files if file.exists()]
    sent, errors = (sum(count[key] for count in counts) for key in ("sent", "errors"))
    where = f"{min(measured_s, stretch.duration_s):.0f} s of {stretch.duration_s:g} s"
    return f"{stretch.name}: {where if measured_s >= 0 else 'warming up'}, {sent:,} sent, {errors:,} errors"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
