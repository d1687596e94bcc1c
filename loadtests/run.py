"""Run a plan and judge it: exit 0 only where every judged check passed on a valid run.

`python -m loadtests.run --plan plan.json --out DIR` writes result.json, report.html and the raw files to DIR.
Exit codes: 0 passed, 2 usage or a plan refused, 3 failed, 4 inconclusive or error.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtests import validity
from loadtests.control import empty_endpoint
from loadtests.look import LoadError, Say, Stretch, run_stretch
from loadtests.plan import Plan, PlanError, read_plan, read_rows
from loadtests.report import render
from loadtests.result import Result, as_json, of_judgement, without_judgement
from loadtests.samples import Look, read_look
from loadtests.slo import judge
from loadtests.target import check_target
from loadtests.verdict import Check, Verdict

CONTROL_S = 2.0
CONTROL_WARMUP_S = 1.0
USAGE = 2
EXIT_CODES = {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4, Verdict.ERROR: 4}


@dataclass(frozen=True)
class Outcome:
    """A result, and the measured looks that its report draws."""

    result: Result
    looks: tuple[Look, ...] = ()


def execute(plan: Plan, out: Path, say: Say) -> Outcome:
    """Run the control, the first look and, where it proves neither yes nor no, the planned second one."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        refused = check_target(plan, read_rows(plan.rows_file)[0])
        if refused:
            return Outcome(without_judgement(plan, started_at, refused))
        with empty_endpoint() as host:
            control = _measure(plan, Stretch("control", 0, host, CONTROL_WARMUP_S, CONTROL_S), out, say)
        sound = validity.control_check(plan, control[0])
        if sound.verdict is not Verdict.PASSED:
            return Outcome(without_judgement(plan, started_at, sound))
        return _look_and_judge(plan, started_at, control=control[0], out=out, say=say)
    except LoadError as error:
        failed = Check("load", Verdict.ERROR, None, None, f"ERROR: {error}")
        return Outcome(without_judgement(plan, started_at, failed))


def _look_and_judge(plan: Plan, started_at: str, *, control: Look, out: Path, say: Say) -> Outcome:
    looks: list[Look] = []
    raws: list[Path] = []
    for number in range(1, plan.looks + 1):
        # Each look warms up anew: the target was idle while the last one was judged.
        stretch = Stretch(f"look {number}", number, plan.host, plan.warmup_s, plan.duration_s)
        look, files = _measure(plan, stretch, out, say)
        if not len(look.latency_ms):
            raise LoadError(f"{stretch.name}: no request was sent")
        looks.append(look)
        raws += files
        judgement = judge(plan, looks, control)
        if not judgement.extendable:
            break
        if number < plan.looks:
            say(f"look {number}: inconclusive, looking once more as planned")
    return Outcome(of_judgement(plan, started_at, looks=looks, judgement=judgement, raws=raws), looks=tuple(looks))


def _measure(plan: Plan, stretch: Stretch, out: Path, say: Say) -> tuple[Look, list[Path]]:
    length = f"{stretch.duration_s:g} s after {stretch.warmup_s:g} s of warm-up"
    say(f"{stretch.name}: {plan.rate_per_s:g} req/s for {length}")
    files = run_stretch(plan, stretch, out=out, say=say)
    return read_look(files), files


def _end_with_stdin() -> None:
    """Wait for the end of standard input, which comes when the caller dies, and end this process then."""
    # Not through sys.stdin, whose lock a waiting thread would keep from the end of the interpreter.
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, write and report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description="Run and judge a load.")
    parser.add_argument("--plan", type=Path, required=True, help="plan.json")
    parser.add_argument("--out", type=Path, required=True, help="directory for the result")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does")
    options = parser.parse_args(argv)
    # An unwinding stack ends the Locust processes; the default action would leave them running.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if options.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        plan = read_plan(options.plan)
        options.out.mkdir(parents=True, exist_ok=True)
    except (PlanError, OSError) as error:
        _say(f"error: {error}")
        return USAGE
    outcome = execute(plan, options.out, _say)
    (options.out / "report.html").write_text(render(plan, outcome.result, outcome.looks), encoding="utf-8")
    (options.out / "result.json").write_text(as_json(outcome.result), encoding="utf-8")
    sys.stdout.writelines(f"{check.message}\n" for check in outcome.result.checks)
    return EXIT_CODES[outcome.result.verdict]


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
