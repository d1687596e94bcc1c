"""Gate: the latency SLO of each route, measured by open-model load runs and judged on raw latencies.

A load run judges itself by statistics that its own page explains; this gate states its plan from the policy, and
carries its checks into the report. A no counts only from a run that was sound, while nothing was released.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed, Overdue, Undecided
from pipelines.evaluation.gates.gate import Gate, Need
from pipelines.evaluation.gates.service.load_plan import load_plan
from pipelines.evaluation.gates.service.slo_limits import PREDICT, SloLimits
from pipelines.evaluation.gates.service.world import Service
from pipelines.ports import ServiceProbe

FIRST_REQUEST = "first_request"
COMPARED = "slo.p99_ratio"


@dataclass(frozen=True)
class RouteRun:
    """The load run of one route under its name in the report: its parsed result, or why there is none."""

    name: str
    result: Mapping[str, Any]
    refusal: str | None = None


@dataclass(frozen=True)
class Loads:
    """What was measured under load: one run a route, until one said no.

    `first_request_ms` is infinite where nobody answered. `meanwhile` names the model's releases that were under way
    during the runs, `beside` those of other models. `unlike` says that no request suits the champion.
    """

    runs: tuple[RouteRun, ...]
    demo: bool
    compared: bool
    first_request_ms: float | None = None
    meanwhile: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unlike: bool = False


def measure(world: Service, limits: SloLimits) -> Loads:
    """Run the policy's load for each of its routes, until one says no.

    Each run leaves `report.html` and `result.json` in a directory of its name. A first request that nobody answered is
    a no already, where the policy limits it: then nothing is loaded.
    """
    demo, compared = world.profile is Profile.DEMO, world.champion is not None
    if limits.first_request_ms is not None and world.first_request_ms == math.inf:
        return Loads((), demo, compared, math.inf)
    before = world.releases()
    runs: list[RouteRun] = []
    for slo in limits.each_route():
        runs.append(_loaded(world, slo))
        if runs[-1].refusal or runs[-1].result["verdict"] == Verdict.FAILED:
            break
    seen = _under_way(before, world.releases())
    own, others = ([each.id for each in seen if (each.model == world.release.model) is own] for own in (True, False))
    return Loads(
        tuple(runs), demo, compared, world.first_request_ms, tuple(own), beside=tuple(others), unlike=world.unlike
    )


def _loaded(world: Service, slo: SloLimits) -> RouteRun:
    name = "slo" if slo.route == PREDICT else f"slo.{slo.route.rpartition('/')[2]}"
    plan = load_plan(
        slo, world.url, world.release.version, champion=world.champion, first_request_ms=world.first_request_ms
    )
    place = world.workdir / name
    place.mkdir(parents=True, exist_ok=True)
    try:
        rows = world.champion.rows if world.champion else world.rows
        run = world.loads.run(plan, rows, place, check=world.check)
    except Overdue:
        raise
    except Undecided as error:
        return RouteRun(name, {}, error.message)
    (place / "report.html").write_bytes(run.report_html)
    (place / "result.json").write_text(json.dumps(run.result, indent=1))
    return RouteRun(name, run.result)


def _under_way(before: list[ReleaseRecord], after: list[ReleaseRecord]) -> list[ReleaseRecord]:
    """Return the releases that began, went on or ended between two looks at all of them."""
    known = {record.id: record for record in before}
    return [r for r in after if r.state is ReleaseState.STARTING or known.get(r.id) != r]


def judge(loads: Loads, limits: SloLimits) -> list[GateResult]:
    """Return a result a check, `slo.<check>`; those of a further route carry its last part, as in `slo.batch.p99`."""
    results: list[GateResult] = []
    if limits.first_request_ms is not None and loads.first_request_ms == math.inf:
        results.append(_unanswered(limits.first_request_ms, demo=loads.demo))
    else:
        for run in loads.runs:
            results += judge_run(run, demo=loads.demo)
    if loads.meanwhile:
        why = f"a release was under way during the load run: {', '.join(loads.meanwhile)}"
        unsound = GateResult("slo.validity", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: slo.validity: {why}")
        results = [*_without_no(results, why), unsound]
    elif loads.beside:
        # It shares the machine only: it may have made slower what was measured, and nothing faster.
        results = _without_no(results, f"another model was released during the load run: {', '.join(loads.beside)}")
    if limits.comparison and not loads.compared:
        why = "no request suits production's schema as well" if loads.unlike else "no champion yet to compare with"
        results.append(GateResult(COMPARED, Verdict.NOT_APPLICABLE, f"{COMPARED}: {why}"))
    return results


def judge_run(run: RouteRun, *, demo: bool) -> list[GateResult]:
    """Return the judged and shown checks of a load run, each with the path measured.

    A shown one never stops a version, nor does a no in a run that itself is none: its validity comes first.
    """
    if run.refusal is not None:
        return [GateResult(f"{run.name}.run", Verdict.ERROR, f"ERROR: {run.name}: {run.refusal}")]
    results = [_checked(run, check, demo=demo) for check in run.result["checks"]]
    if not results:
        return [GateResult(f"{run.name}.run", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: {run.name}: nothing was measured")]
    if run.result["verdict"] != Verdict.FAILED:
        return _without_no(results, f"the run is {run.result['verdict']}")
    return results


def _checked(run: RouteRun, check: Mapping[str, Any], *, demo: bool) -> GateResult:
    shown = "" if check["judged"] else " (shown, not judged)"
    # Whoever deployed has sent the first request to the replica itself.
    path = "direct" if check["name"] == FIRST_REQUEST else run.result["via"]
    interval = check["interval"]
    return GateResult(
        f"{run.name}.{check['name']}",
        Verdict(check["verdict"]) if check["judged"] else Verdict.NOT_APPLICABLE,
        check["message"] + shown + _mark(path, demo=demo),
        observed=check["observed"],
        # A bound that is no finite number is written as null.
        interval=(interval[0], interval[1]) if interval and None not in interval else None,
        limit=check["limit"],
    )


def _without_no(results: Sequence[GateResult], why: str) -> list[GateResult]:
    """Return the results with every no inconclusive, because of the run that it was measured in."""
    return [
        replace(result, verdict=Verdict.INCONCLUSIVE, message=f"{result.message} (does not count: {why})")
        if result.verdict is Verdict.FAILED
        else result
        for result in results
    ]


def _unanswered(limit_ms: float, *, demo: bool) -> GateResult:
    message = f"FAIL: {FIRST_REQUEST}=inf ms > {limit_ms:g} ms (the first one after the deploy was not answered)"
    name = f"slo.{FIRST_REQUEST}"
    return GateResult(name, Verdict.FAILED, message + _mark("direct", demo=demo), math.inf, limit=limit_ms)


def _mark(path: str, *, demo: bool) -> str:
    return f" [path: {path}]" + " [demo evidence]" * demo


def time_first_request(probe: ServiceProbe, url: str, row: Mapping[str, Any], *, timeout_s: float) -> float:
    """Send one prediction and return its milliseconds; infinite where it was not answered within `timeout_s`."""
    json_type = {"Content-Type": "application/json"}
    begun = time.perf_counter()
    try:
        answer = probe.post(f"{url}{PREDICT}", json.dumps(row).encode(), json_type, timeout_s=timeout_s)
    except DeployFailed:
        return math.inf
    return (time.perf_counter() - begun) * 1000 if answer.status == HTTPStatus.OK else math.inf


SLO = Gate(
    name="slo",
    description="Under the policy's load every judged quantile of the latency, the share of errors and the longest"
    " stall stay within their limits, on each route; where production serves something, p99 is compared with the"
    " champion's, which runs beside the version and is loaded in turn, with requests that both take. A no counts only"
    " from a run that was sound, and during which nothing was released.",
    limits=SloLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.SERVICE, Need.EVALUATION_SET}),
    overridable=True,
    section="slo",
    step="latency SLO under load",
    beside=lambda limits: COMPARED if limits.comparison else None,
)
