"""Carry a plan out: control run, looks and comparison, each judged before the next one begins.

Nothing of the target is measured before this machine has shown that it can measure.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from loadtests.generator.control import OWN_ENDPOINT, empty_endpoint
from loadtests.judge import validity
from loadtests.judge.comparison import Block, extendable, judge_comparison
from loadtests.judge.slo import judge, with_comparison
from loadtests.judge.verdict import Check, Verdict
from loadtests.plan.personas import requests_of, scorer_of
from loadtests.plan.plan import ComparisonPlan, Plan
from loadtests.plan.reading import read_rows
from loadtests.runner.blocks import blocks_phase, pair
from loadtests.runner.caller import Caller, LoadError
from loadtests.runner.phase import Phase, run_phase
from loadtests.runner.repeats import Repeats
from loadtests.runner.result import Result, of_judgement, without_judgement
from loadtests.runner.target import check_target
from loadtests.samples import Look, read_look, read_turns

CONTROL_S = 2.0
# A slow run is controlled for longer: its rate must be expected to reach so many.
CONTROL_REQUESTS = 20
CONTROL_WARMUP_S = 1.0
CONTROL_ATTEMPTS = 3


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
        phase = Phase("control", 0, host, CONTROL_WARMUP_S, length_s)
        for _ in range(CONTROL_ATTEMPTS):
            control, _ = _measure(plan, phase, out, caller)
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
        phase = Phase(
            f"look {number}", number, plan.host, plan.warmup_s, plan.duration_s, shape=plan.shape, mix=plan.shares
        )
        again = True
        while again:
            look, files = _measure(plan, repeats.named(phase), out, caller)
            if not len(look.latency_ms):
                raise LoadError(f"{phase.name}: no request was sent")
            raws += files
            judgement = judge(plan, [*looks, look], before.control, first_request_ms=before.first_request_ms)
            again = judgement.verdict is Verdict.INCONCLUSIVE and repeats.follow(phase, judgement.checks)
        looks.append(look)
        if not judgement.extendable:
            break
        if number < plan.looks:
            caller.say(f"look {number}: inconclusive, looking once more as planned")
    blocks: list[Block] = []
    if plan.comparison and judgement.verdict is not Verdict.FAILED:
        blocks, files, compared = _compare(plan, plan.comparison, out, repeats)
        raws += files
        judgement = with_comparison(judgement, compared)
    judgement = replace(judgement, checks=(*judgement.checks, *repeats.checks()))
    result = of_judgement(plan, before.started_at, looks=looks, blocks=blocks, judgement=judgement, raws=raws)
    return Outcome(result, looks=tuple(looks))


def _compare(
    plan: Plan, comparison: ComparisonPlan, out: Path, repeats: Repeats
) -> tuple[list[Block], list[Path], Check]:
    """Measure the planned blocks and, where these prove neither yes nor no, as many once more if that is planned."""
    blocks: list[Block] = []
    raws: list[Path] = []
    caller = repeats.caller
    for look in range(1, plan.looks + 1):
        phase = blocks_phase(plan, comparison, look)
        caller.say(f"{phase.name}: candidate and champion in turn, {comparison.blocks} times, {phase.duration_s:g} s")
        again = True
        while again:
            files = run_phase(plan, repeats.named(phase), out=out, caller=caller)
            measured = pair(read_turns(files))
            raws += files
            # Whether it was disturbed, each look shows by itself.
            again = repeats.follow(phase, [judge_comparison(plan, measured)])
        blocks += measured
        compared = judge_comparison(plan, blocks)
        if not extendable(compared):
            break
    return blocks, raws, compared


def _measure(plan: Plan, phase: Phase, out: Path, caller: Caller) -> tuple[Look, list[Path]]:
    length = f"{phase.duration_s:g} s after {phase.warmup_s:g} s of warm-up"
    caller.say(f"{phase.name}: {plan.rate_per_s:g} req/s for {length}")
    files = run_phase(plan, phase, out=out, caller=caller)
    return read_look(files), files
