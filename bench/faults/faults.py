"""Injects one fault after the other into one installation under load, and asks the doctor after each."""

import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence

import httpx
import psutil

from bench.faults.grounds import KEPT_PER_S, NEW_PER_S, Grounds
from bench.faults.scenario import NotHeld, NotInjected, Outcome, Scenario, Verdict
from bench.faults.scenarios import clock, connections, data, executor, records, registry, replicas, versions
from bench.faults.scenarios.executor import RECOVERED_S
from bench.faults.small_disk import small_disk
from bench.load.load_client import under_load
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.errors import SlipwayError, UsageError
from tests.e2e.installation import Installation, clone

# What a scenario may meet instead of what is right; the others have their turn all the same.
_OTHERWISE = (
    NotHeld, AssertionError, SlipwayError, OSError, ValueError, LookupError,
    httpx.HTTPError, psutil.Error, subprocess.SubprocessError, sqlite3.Error,
)  # fmt: skip
# After so long no further scenario begins.
ENOUGH_S = 40 * 60.0

# The installation has to recover from each before the next: that is a test as well.
SCENARIOS: tuple[Scenario, ...] = (
    *executor.SCENARIOS,
    *registry.SCENARIOS,
    *versions.SCENARIOS,
    *replicas.SCENARIOS,
    *records.SCENARIOS,
    *clock.SCENARIOS,
    *connections.SCENARIOS,
    *data.SCENARIOS,
)


def measure(place: Place) -> Measured:
    """Run every scenario; what does not hold is shown, and the next one begins after `up`."""
    scenarios, begun = chosen(place.only), time.monotonic()
    with small_disk(place.workdir / "grounds") as disk:
        slipway = Installation(place.workdir / "grounds", tree=clone(place.workdir / "project"))
        try:
            slipway.done("up")
            slipway.apply_policy()
            # So that there is a way back from the first scenario on.
            slipway.first_version()
            grounds = Grounds(slipway, disk, place.report_progress)
            outcomes = [_run(grounds, scenario, until=begun + ENOUGH_S) for scenario in scenarios]
        finally:
            slipway.remove()
    return _measured(outcomes, {**grounds.figures, "taken_s": time.monotonic() - begun})


def chosen(only: str) -> list[Scenario]:
    """Return the scenarios whose name holds `only`, or a part of it between commas; raise UsageError for no one."""
    found = [scenario for scenario in SCENARIOS if any(part in scenario.name for part in only.split(","))]
    if not found:
        names = ", ".join(scenario.name for scenario in SCENARIOS)
        raise UsageError(f"no scenario has {only[:40]!r} in its name", next=f"one of: {names}")
    return found


def _run(grounds: Grounds, scenario: Scenario, *, until: float) -> Outcome:
    begun = time.monotonic()
    if begun > until:
        return Outcome(scenario.name, Verdict.NOT_INJECTED, "the time for all was over", 0.0, 0, 0, scenario.spares, ())
    grounds.report_progress(f"-- {scenario.name}")
    client = grounds.load(looks=not scenario.spares)
    with under_load(client) as load:
        verdict, seen = _verdict(grounds, scenario)
        broken = grounds.broken()
    outcome = Outcome(
        scenario.name, verdict, seen, time.monotonic() - begun, load.sent, len(load.failures), scenario.spares, broken
    )
    grounds.report_progress(f"{outcome.verdict}, {outcome.failed} of {outcome.sent} requests failed: {seen}")
    for line in [*broken, *load.failures[:3]]:
        grounds.report_progress(f"   {line}")
    return outcome


def _verdict(grounds: Grounds, scenario: Scenario) -> tuple[Verdict, str]:
    try:
        return Verdict.HELD, scenario.inject(grounds)
    except NotInjected as lacking:
        return Verdict.NOT_INJECTED, str(lacking)
    except _OTHERWISE as otherwise:
        seen = str(otherwise) if isinstance(otherwise, NotHeld | AssertionError) else repr(otherwise)
    try:
        grounds.mend()
    except AssertionError as still:
        seen += f"; and then {still}"
    return Verdict.NOT_HELD, seen


def _measured(outcomes: Sequence[Outcome], figures: Mapping[str, float]) -> Measured:
    counted = {verdict: sum(outcome.verdict is verdict for outcome in outcomes) for verdict in Verdict}
    return Measured(
        about=f"{len(outcomes)} faults injected one after the other into one installation of real processes, with"
        f" {KEPT_PER_S} req/s over kept connections and {NEW_PER_S} new connections a second to production, without"
        " retries; after each, every invariant is checked",
        figures={
            "held": counted[Verdict.HELD],
            "not_held": counted[Verdict.NOT_HELD],
            "not_injected": counted[Verdict.NOT_INJECTED],
            "invariants_broken": sum(len(outcome.broken) for outcome in outcomes),
            "sent": sum(outcome.sent for outcome in outcomes),
            "failed_where_nothing_that_serves_was_hit": sum(o.failed for o in outcomes if o.spares),
            "failed_where_replicas_were_hit": sum(o.failed for o in outcomes if not o.spares),
            **figures,
        },
        limits=(
            Limit("not_held", Bound.AT_MOST, 0),
            Limit("invariants_broken", Bound.AT_MOST, 0),
            Limit("failed_where_nothing_that_serves_was_hit", Bound.AT_MOST, 0),
            Limit("taken_s", Bound.AT_MOST, ENOUGH_S),
            *(Limit(figure, Bound.AT_MOST, RECOVERED_S) for figure in figures if figure == "recovery_max_s"),
        ),
        tried=tuple(
            {
                "fault": outcome.name,
                "verdict": str(outcome.verdict),
                "failed": f"{outcome.failed} of {outcome.sent}",
                "seconds": f"{outcome.taken_s:.0f}",
                "seen": "; ".join([outcome.seen, *(f"after it {line}" for line in outcome.broken)]),
            }
            for outcome in outcomes
        ),
    )
