"""Read the plan of a load run; a plan that could never pass is refused before the first request is sent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.plan.personas import read_mix, scorer_of
from loadtests.plan.plan import (
    MIN_BLOCK_REQUESTS,
    MIN_BLOCKS,
    Arrivals,
    ComparisonPlan,
    Join,
    Limit,
    Plan,
    PlanError,
    Via,
    min_requests,
)
from loadtests.plan.reading import is_host, is_plain, typed
from loadtests.plan.shapes import ShapeKind, read_shape

MIN_DURATION_S = 10
MAX_MARGIN = 2
MAX_RATE_PER_S = 1_000_000
MAX_S = 24 * 3600
# A raw file counts the turns of a run in 16 bits, two to a block.
MAX_BLOCKS = 10_000
LEAST_SHARE = 1e-9
_AT_LEAST = f"must be {MIN_DURATION_S} or more"
_SHARE = f"must be between 0 and 1, and {LEAST_SHARE:g} off both"


def read_plan(path: Path) -> Plan:
    """Read and check a plan file; raise PlanError on the first thing wrong."""
    plan = _parse(_read_json(path, "plan"))
    _check_values(plan)
    _check_evidence(plan)
    if plan.comparison:
        _check_comparison(plan, plan.comparison)
    read_rows(plan.rows_file)
    return plan


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the request objects to send; raise PlanError when there are none."""
    rows = _read_json(path, "rows_file")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise PlanError(f"rows_file {path} must be a JSON list of one or more request objects")
    return rows


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{what} {path} can't be read: {error}") from error


def _parse(data: Any) -> Plan:
    try:
        values = typed(data, Plan, "plan")
        values["arrivals"] = _arrivals(values["arrivals"])
        values["rows_file"] = Path(values["rows_file"])
        if not isinstance(values["limits"], list):
            raise ValueError('plan: limits must be a list of {"quantile", "limit_ms", "judged"}')
        values["limits"] = tuple(Limit(**typed(limit, Limit, "limit")) for limit in values["limits"])
        if "comparison" in values:
            values["comparison"] = ComparisonPlan(**typed(values["comparison"], ComparisonPlan, "comparison"))
        if "join" in values:
            values["join"] = Join(**typed(values["join"], Join, "join"))
        for name, read in (("shape", read_shape), ("mix", read_mix), ("via", _via)):
            if name in values:
                values[name] = read(values[name])
        values.setdefault("mix", ((scorer_of(values["path"]), 1.0),))
    except (ValueError, RecursionError) as error:
        raise PlanError(str(error)) from error
    return Plan(**values)


def _arrivals(name: Any) -> Arrivals:
    if name not in list(Arrivals):
        raise ValueError(f"plan: arrivals is {name!r}, not poisson or fixed")
    return Arrivals(name)


def _via(name: Any) -> Via:
    if name not in list(Via):
        raise ValueError(f"plan: via is {name!r}, not edge or direct")
    return Via(name)


def _check_values(plan: Plan) -> None:
    rules = [
        (is_host(plan.host), f"host {plan.host!r} is not an http URL of a host"),
        (plan.path.startswith("/"), f"path {plan.path!r} does not start with /"),
        (is_plain(plan.path), f"path {plan.path!r} must be ASCII without spaces, the rest percent-encoded"),
        (
            0 < plan.rate_per_s <= MAX_RATE_PER_S,
            f"rate_per_s is {plan.rate_per_s:g}, must be above 0, at most {MAX_RATE_PER_S:,}",
        ),
        (0 <= plan.warmup_s <= MAX_S, f"warmup_s is {plan.warmup_s:g}, must be 0 or more, at most {MAX_S:,}"),
        (plan.duration_s > 0, f"duration_s is {plan.duration_s:g}, {_AT_LEAST}"),
        (plan.duration_s <= MAX_S, f"duration_s is {plan.duration_s:g}, must be at most {MAX_S:,}"),
        (plan.seed >= 0, f"seed is {plan.seed}, must be 0 or more"),
        (0 < plan.timeout_s <= MAX_S, f"timeout_s is {plan.timeout_s:g}, must be above 0, at most {MAX_S:,}"),
        (1 <= plan.workers <= plan.max_in_flight, "workers must be from 1 to max_in_flight"),
        (bool(plan.expected_version), "expected_version is empty"),
        (_is_share(plan.max_error_rate), f"max_error_rate is {plan.max_error_rate:g}, {_SHARE}"),
        (plan.max_stall_s > 0, f"max_stall_s is {plan.max_stall_s:g}, must be above 0"),
        (bool(plan.judged_limits), "no limit is judged"),
        (len({limit.name for limit in plan.limits}) == len(plan.limits), "a quantile has two limits"),
        (
            plan.first_request_ms is None or 0 < plan.first_request_ms < plan.timeout_s * 1000,
            f"first_request_ms is {plan.first_request_ms}, must be above 0 and below timeout_s",
        ),
    ]
    if plan.join:
        rules += [
            (0 < plan.join.port < 65536, f"join.port is {plan.join.port}, must be from 1 to 65535"),
            (plan.join.wait_s > 0, f"join.wait_s is {plan.join.wait_s}, must be above 0"),
        ]
    for limit in plan.limits:
        rules += [
            (_is_share(limit.quantile), f"quantile {limit.quantile:g} {_SHARE}"),
            (
                0 < limit.limit_ms < plan.timeout_s * 1000,
                f"{limit.name} <= {limit.limit_ms:g} ms must be above 0 and below timeout_s",
            ),
        ]
    _refuse("plan", rules)


def _is_share(value: float) -> bool:
    return LEAST_SHARE <= value <= 1 - LEAST_SHARE


def _refuse(where: str, rules: Sequence[tuple[bool, str]]) -> None:
    for holds, message in rules:
        if not holds:
            raise PlanError(f"{where}: {message}")


def _check_evidence(plan: Plan) -> None:
    """Refuse a run that is too short to prove anything, and say all that it lacks."""
    lacks = [] if plan.duration_s >= MIN_DURATION_S else [f"plan: duration_s is {plan.duration_s:g}, {_AT_LEAST}"]
    planned = plan.planned_requests
    sent = f"{plan.rate_per_s:g} req/s x {plan.duration_s:g} s"
    if plan.shape.kind not in (ShapeKind.STEADY, ShapeKind.SOAK):
        sent += f" as a {plan.shape.kind}"
    judged = int(planned * plan.judged_share)
    part = "" if plan.judged_share == 1 else f", {plan.judged_share:.0%} of them to {plan.path},"
    for limit in plan.judged_limits:
        needed = min_requests(1 - limit.quantile, plan.alpha)
        if judged < needed:
            lacks.append(f"{limit.name} needs at least {needed:,} requests, {sent}{part} gives {judged:,}")
    needed = min_requests(plan.max_error_rate, plan.alpha)
    if planned * plan.looks < needed:
        looks = f" x {plan.looks} looks" if plan.extension else ""
        lacks.append(
            f"errors <= {plan.max_error_rate * 100:g} % needs at least {needed:,} requests, "
            f"{sent}{looks} gives {planned * plan.looks:,}"
        )
    if lacks:
        raise PlanError("; ".join(lacks))


def _check_comparison(plan: Plan, comparison: ComparisonPlan) -> None:
    in_block = int(plan.rate_per_s * min(comparison.block_s, MAX_S))
    sent = f"{plan.rate_per_s:g} req/s x {comparison.block_s:g} s"
    rules = [
        (is_host(comparison.host), f"host {comparison.host!r} is not an http URL of a host"),
        (comparison.host != plan.host, f"host {comparison.host!r} is the candidate's own"),
        (bool(comparison.expected_version), "expected_version is empty"),
        (
            MIN_BLOCKS <= comparison.blocks <= MAX_BLOCKS,
            f"blocks is {comparison.blocks}, must be {MIN_BLOCKS} or more, at most {MAX_BLOCKS:,}",
        ),
        (
            0 <= comparison.warmup_s <= MAX_S,
            f"warmup_s is {comparison.warmup_s:g}, must be 0 or more, at most {MAX_S:,}",
        ),
        (comparison.block_s <= MAX_S, f"block_s is {comparison.block_s:g}, must be at most {MAX_S:,}"),
        (
            in_block >= MIN_BLOCK_REQUESTS,
            f"p99 needs at least {MIN_BLOCK_REQUESTS} requests in a block, {sent} gives {in_block:,}",
        ),
        (
            1 < comparison.margin <= MAX_MARGIN,
            f"margin is {comparison.margin:g}, must be above 1, at most {MAX_MARGIN}",
        ),
        (
            0 <= comparison.tolerance_ms < plan.strictest_ms,
            f"tolerance_ms is {comparison.tolerance_ms:g}, must be 0 or more and below {plan.strictest_ms:g} ms",
        ),
    ]
    _refuse("comparison", rules)
