"""Run a plan and judge it: exit 0 only where every judged check passed on a valid run.

`python -m loadtests.run --plan plan.json --out DIR` writes result.json, report.html and the raw files to DIR.
Exit codes: 0 passed, 2 usage or a plan refused, 3 failed, 4 inconclusive or error,
143 ended by SIGTERM, by Ctrl-C or by the end of a caller it was told to watch.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from loadtests.judge.verdict import Verdict
from loadtests.plan.plan import Plan, PlanError
from loadtests.plan.reading import read_plan
from loadtests.report.report import render, render_capacity
from loadtests.runner.caller import Caller, StoppedError
from loadtests.runner.capacity import capacity_json, find_capacity
from loadtests.runner.execution import execute
from loadtests.runner.result import Result, as_json

USAGE = 2
STOPPED = 128 + signal.SIGTERM
EXIT_CODES = {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4, Verdict.ERROR: 4}


def _stop_with_stdin(stop: threading.Event) -> None:
    """Wait for the end of standard input, which comes when the caller dies, and end the run then."""
    # Not through sys.stdin, whose lock a waiting thread would keep from the end of the interpreter.
    while os.read(0, 1):
        continue
    stop.set()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, write and report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description="Run and judge a load.")
    parser.add_argument("--plan", type=Path, required=True, help="plan.json")
    parser.add_argument("--out", type=Path, required=True, help="directory for the result")
    parser.add_argument("--find-capacity", action="store_true", help="find the highest rate that meets the SLO")
    parser.add_argument("--check", action="store_true", help="only read the plan")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does")
    options = parser.parse_args(argv)
    caller = Caller()
    if options.end_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(caller.stop,), daemon=True).start()
    try:
        plan = read_plan(options.plan)
        options.out.mkdir(parents=True, exist_ok=True)
    except (PlanError, OSError) as error:
        caller.say(f"error: {error}")
        return USAGE
    if options.check:
        return 0
    measure = _measure_capacity if options.find_capacity else _run_once
    with _ended_by_signals(caller):
        try:
            verdict, messages = measure(plan, options.out, caller)
        except StoppedError:
            return STOPPED
    sys.stdout.writelines(f"{message}\n" for message in messages)
    return EXIT_CODES[verdict]


@contextmanager
def _ended_by_signals(caller: Caller) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the run in order: by default they would leave the Locust processes running."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    former = [signal.signal(number, lambda number, frame: caller.stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


def _run_once(plan: Plan, out: Path, caller: Caller) -> tuple[Verdict, list[str]]:
    result = _run_into(plan, out, caller)
    return result.verdict, [check.message for check in result.checks]


def _run_into(plan: Plan, out: Path, caller: Caller) -> Result:
    out.mkdir(parents=True, exist_ok=True)
    outcome = execute(plan, out, caller)
    (out / "result.json").write_text(as_json(outcome.result), encoding="utf-8")
    (out / "report.html").write_text(render(plan, outcome.result, outcome.looks), encoding="utf-8")
    return outcome.result


def _measure_capacity(plan: Plan, out: Path, caller: Caller) -> tuple[Verdict, list[str]]:
    """Run one rate after the other, each into a directory of its own, and write what they show together."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")

    def run(at_rate: Plan, number: int) -> Result:
        result = _run_into(at_rate, out / f"try-{number}", caller)
        caller.say(f"{at_rate.rate_per_s:g} req/s: {result.verdict}")
        return result

    capacity = find_capacity(plan, run)
    (out / "result.json").write_text(capacity_json(plan, capacity, started_at), encoding="utf-8")
    (out / "report.html").write_text(render_capacity(plan, capacity, started_at), encoding="utf-8")
    return capacity.verdict, [capacity.message]


if __name__ == "__main__":
    sys.exit(main())
