"""Run one phase of a load run as Locust processes and hand back its raw files; a run without them is an error."""

import json
import re
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from loadtests.generator.turn import Turn
from loadtests.plan.personas import ONLY_SINGLE, Mix
from loadtests.plan.plan import Plan
from loadtests.plan.shapes import STEADY, Shape
from loadtests.runner.caller import Caller, LoadError
from loadtests.runner.join import LOCUST

ROOT = Path(__file__).parents[2]
SPARE_S = 30
TURN_SPARE_S = 1
POLL_S = 0.1
PROGRESS_EVERY_S = 4.0
LOG_LINES = 5
LOGGED_ERROR = re.compile(r"/ERROR/\S+: (.*)")


@dataclass(frozen=True)
class Phase:
    """A part of a load run, measured by itself: at one host, or in `turns`, which together last `duration_s`.

    `number` is 0 for the control run, else the look's.
    """

    name: str
    number: int
    host: str
    warmup_s: float
    duration_s: float
    shape: Shape = STEADY
    mix: Mix = ONLY_SINGLE
    turns: tuple[Turn, ...] = ()


def run_phase(plan: Plan, phase: Phase, *, out: Path, caller: Caller) -> list[Path]:
    """Run the plan's workers against the phase's host; raise LoadError when one fails or hangs.

    The workers of this machine have ended when this returns or raises; those of others wait for the next phase.
    """
    prefix = phase.name.replace(" ", "")
    raws = [out / f"{prefix}-worker{index}.parquet" for index in range(plan.workers)]
    # Workers of other machines have one process here: their master, which writes the raw files of all.
    written = {out / f"{prefix}.parquet": raws} if plan.join else {raw: [raw] for raw in raws}
    with ExitStack() as stack:
        for raw in raws:
            raw.unlink(missing_ok=True)
        processes = []
        for index, file in enumerate(written):
            log = stack.enter_context(file.with_suffix(".log").open("wb"))
            command = _command(plan, phase, raw=file, index=index)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
            stack.callback(_end, process)
            processes.append(process)
        _wait(processes, phase, raws=list(written), limit_s=_limit_s(plan, phase), caller=caller)
    for file, process in zip(written, processes, strict=True):
        if not all(raw.exists() for raw in written[file]):
            ended = f"Locust wrote no raw values (exit code {process.returncode})"
            raise LoadError(f"{phase.name}: {ended}: {_why(file.with_suffix('.log'))}")
        file.with_suffix(".progress").unlink(missing_ok=True)
    return raws


def _why(log: Path) -> str:
    """Return the errors that Locust logged, else its last lines."""
    text = log.read_text(errors="replace")
    return " | ".join(LOGGED_ERROR.findall(text) or text.splitlines()[-LOG_LINES:])


def _command(plan: Plan, phase: Phase, *, raw: Path, index: int) -> list[str]:
    """Give each worker an equal part of the rate; each of this machine has a seed of its own."""
    options = {
        "--host": phase.host,
        "--path": plan.path,
        "--rows-file": plan.rows_file.resolve(),
        "--rate": plan.rate_per_s / plan.workers,
        "--arrivals": plan.arrivals,
        "--seed": _seed(plan, phase.number, index),
        "--warmup": phase.warmup_s,
        "--duration": phase.duration_s,
        "--timeout": plan.timeout_s,
        "--max-in-flight": plan.max_in_flight // plan.workers,
        "--shape": phase.shape.as_text(),
        "--mix": ",".join(f"{persona}={weight}" for persona, weight in phase.mix),
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
    if phase.turns:
        turns_file = raw.with_suffix(".turns.json")
        turns_file.write_text(json.dumps([asdict(turn) for turn in phase.turns]))
        options["--turns-file"] = turns_file.resolve()
    words = [f"{option}={value}" for option, value in options.items()]
    joined = ["--master", "--gather"] if plan.join else []
    return [*LOCUST, "--headless", "--only-summary", *joined, *words]


def _seed(plan: Plan, *numbers: int) -> int:
    return int(np.random.SeedSequence([plan.seed, *numbers]).generate_state(1)[0])


def _limit_s(plan: Plan, phase: Phase) -> float:
    # Each turn waits for its last replies before the next one begins.
    waits_s = plan.timeout_s + (plan.timeout_s + TURN_SPARE_S) * len(phase.turns)
    joins_s = plan.join.wait_s if plan.join else 0
    return joins_s + phase.warmup_s + phase.duration_s + waits_s + SPARE_S


def _wait(
    processes: list[subprocess.Popen[bytes]],
    phase: Phase,
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
            raise LoadError(f"{phase.name}: Locust did not end within {SPARE_S} s of its time")
        if began_s is None and raws[0].with_suffix(".progress").exists():
            began_s = now_s
        if began_s is not None and now_s - shown_s >= PROGRESS_EVERY_S:
            shown_s = now_s
            caller.say(_progress(phase, raws, now_s - began_s - phase.warmup_s))
        caller.wait(POLL_S)


def _progress(phase: Phase, raws: list[Path], measured_s: float) -> str:
    files = [raw.with_suffix(".progress") for raw in raws]
    counts = [json.loads(file.read_bytes()) for file in files if file.exists()]
    sent, errors = (sum(count[key] for count in counts) for key in ("sent", "errors"))
    where = f"{min(measured_s, phase.duration_s):.0f} s of {phase.duration_s:g} s"
    return f"{phase.name}: {where if measured_s >= 0 else 'warming up'}, {sent:,} sent, {errors:,} errors"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
