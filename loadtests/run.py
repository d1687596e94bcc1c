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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from loadtests.generator.control import OWN_ENDPOINT, empty_endpoint
from loadtests.judge import validity
from loadtests.judge.comparison import Block, extendable, judge_comparison
from loadtests.judge.slo import judge, with_comparison
from loadtests.judge.verdict import Check, Verdict
from loadtests.plan.personas import requests_of, scorer_of
from loadtests.plan.plan import ComparisonPlan, Plan, PlanError
from loadtests.plan.plan_reading import read_plan, read_rows
from loadtests.report.report import render, render_capacity
from loadtests.runner.blocks import Ratio, blocks_stretch, pair, ratios_of
from loadtests.runner.capacity import capacity_json, find_capacity
from loadtests.runner.look import Caller, LoadError, StoppedError, Stretch, run_stretch
from loadtests.runner.repeats import Repeats
from loadtests.runner.result import Result, as_json, of_judgement, without_judgement
from loadtests.runner.target import check_target
from loadtests.samples import Look, read_legs, read_look

CONTROL_S = 2.0
# A slow run is controlled for longer: its rate must be expected to reach so many.
CONTROL_REQUESTS = 20
CONTROL_WARMUP_S = 1.0
CONTROL_ATTEMPTS = 3
USAGE = 2
STOPPED = 128 + signal.SIGTERM
EXIT_CODES = {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4, Verdict.ERROR: 4}


@dataclass(frozen=True)
class Outcome:
    """A result, and the measured looks that its report draws."""

    result: Result
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True)
class Before:
    """What was there before the first look: when it began, the control run, and how soon the first answer came."""

    started_at: str
    control: Look
    first_request_ms: float


def execute(plan: Plan, out: Path, caller: Caller) -> Outcome:
    """Run the control, the first look and, where it proves neither yes nor no, the planned second one.

    A planned comparison follows unless these have found a no already.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    request = requests_of(scorer_of(plan.path), read_rows(plan.rows_file), plan.path)[0]
    try:
        answers = [check_target(arm, request) for arm in _arms(plan)]
        refused = next((answer.refused for answer in answers if answer.refused), None)
        if refused:
            return Outcome(without_judgement(plan, started_at, refused))
        control = _measure_control(plan, out, caller)
        sound = validity.control_check(plan, control)
        if sound.verdict is not Verdict.PASSED:
            return Outcome(without_judgement(plan, started_at, sound))
        first_ms = plan.first_request_took_ms
        before = Before(started_at, control, answers[0].latency_ms if first_ms is None else first_ms)
        return _look_and_judge(plan, before, out=out, caller=caller)
    except LoadError as error:
        failed = Check("load", Verdict.ERROR, None, None, f"ERROR: {error}")
        return Outcome(without_judgement(plan, started_at, failed))


def _arms(plan: Plan) -> list[Plan]:
    """Return the plan for each service that must answer, as the version that is expected of it."""
    champion = plan.comparison
    arms = [replace(plan, host=champion.host, expected_version=champion.expected_version)] if champion else []
    return [plan, *arms]


def _measure_control(plan: Plan, out: Path, caller: Caller) -> Look:
    """Measure an empty endpoint until this machine is quiet enough, a few times at most.

    Workers of other machines measure their own. Nothing of the target has been seen yet, so waiting for a quiet
    moment favours no verdict.
    """
    with nullcontext(OWN_ENDPOINT) if plan.join else empty_endpoint() as host:
        length_s = max(CONTROL_S, CONTROL_REQUESTS / plan.rate_per_s)
        stretch = Stretch("control", 0, host, CONTROL_WARMUP_S, length_s)
        for _ in range(CONTROL_ATTEMPTS):
            control, _ = _measure(plan, stretch, out, caller)
            sound = validity.control_check(plan, control)
            if sound.verdict is Verdict.PASSED:
                break
            caller.say(sound.message)
    return control


def _look_and_judge(plan: Plan, before: Before, *, out: Path, caller: Caller) -> Outcome:
    looks: list[Look] = []
    raws: list[Path] = []
    repeats = Repeats(caller)
    for number in range(1, plan.looks + 1):
        # Each look warms up anew: the target was idle while the last one was judged.
        stretch = Stretch(
            f"look {number}", number, plan.host, plan.warmup_s, plan.duration_s, shape=plan.shape, mix=plan.mix
        )
        again = True
        while again:
            look, files = _measure(plan, repeats.named(stretch), out, caller)
            if not len(look.latency_ms):
                raise LoadError(f"{stretch.name}: no request was sent")
            raws += files
            judgement = judge(plan, [*looks, look], before.control, first_request_ms=before.first_request_ms)
            again = judgement.verdict is Verdict.INCONCLUSIVE and repeats.follow(stretch, judgement.checks)
        looks.append(look)
        if not judgement.extendable:
            break
        if number < plan.looks:
            caller.say(f"look {number}: inconclusive, looking once more as planned")
    ratios: tuple[Ratio, ...] = ()
    if plan.comparison and judgement.verdict is not Verdict.FAILED:
        blocks, files, compared = _compare(plan, plan.comparison, out, repeats)
        raws += files
        ratios = ratios_of(blocks, plan.path)
        judgement = with_comparison(judgement, compared)
    judgement = replace(judgement, checks=(*judgement.checks, *repeats.checks()))
    result = of_judgement(plan, before.started_at, looks=looks, judgement=judgement, raws=raws)
    return Outcome(replace(result, blocks=ratios), looks=tuple(looks))


def _compare(
    plan: Plan, comparison: ComparisonPlan, out: Path, repeats: Repeats
) -> tuple[list[Block], list[Path], Check]:
    """Measure the planned blocks and, where these prove neither yes nor no, as many once more if that is planned."""
    blocks: list[Block] = []
    raws: list[Path] = []
    caller = repeats.caller
    for look in range(1, plan.looks + 1):
        stretch = blocks_stretch(plan, comparison, look)
        caller.say(
            f"{stretch.name}: candidate and champion in turn, {comparison.blocks} times, {stretch.duration_s:g} s"
        )
        again = True
        while again:
            files = run_stretch(plan, repeats.named(stretch), out=out, caller=caller)
            measured = pair(read_legs(files))
            raws += files
            # Whether it was disturbed, each look shows by itself.
            again = repeats.follow(stretch, [judge_comparison(plan, measured)])
        blocks += measured
        compared = judge_comparison(plan, blocks)
        if not extendable(compared):
            break
    return blocks, raws, compared


def _measure(plan: Plan, stretch: Stretch, out: Path, caller: Caller) -> tuple[Look, list[Path]]:
    length = f"{stretch.duration_s:g} s after {stretch.warmup_s:g} s of warm-up"
    caller.say(f"{stretch.name}: {plan.rate_per_s:g} req/s for {length}")
    files = run_stretch(plan, stretch, out=out, caller=caller)
    return read_look(files), files


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
