"""Read the plan of a load run; a plan that could never pass is refused before the first request is sent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loadtests.plan.plan import MIN_BLOCK_REQUESTS, PLAN, ComparisonPlan, Plan, PlanError, min_requests
from loadtests.plan.shapes import ShapeKind
from loadtests.plan.strict import refusal

MIN_DURATION_S = 10


def read_plan(path: Path) -> Plan:
    """Read and check a plan file; raise PlanError on the first thing wrong."""
    try:
        plan = PLAN.validate_json(path.read_bytes())
    except OSError as error:
        raise PlanError(f"plan {path} can't be read: {error}") from error
    except ValidationError as error:
        raise PlanError(refusal(error, "plan")) from error
    _check_together(plan)
    _check_evidence(plan)
    if plan.comparison:
        _check_comparison(plan, plan.comparison)
    read_rows(plan.rows_file)
    return plan


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the request objects to send; raise PlanError when there are none."""
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"rows_file {path} can't be read: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise PlanError(f"rows_file {path} must be a JSON list of one or more request objects")
    return rows


def _check_together(plan: Plan) -> None:
    """Refuse values that each are right and do not go together."""
    timeout_ms = plan.timeout_s * 1000
    rules = [
        (plan.workers <= plan.max_in_flight, "workers must be from 1 to max_in_flight"),
        (bool(plan.judged_limits), "no limit is judged"),
        (len({limit.name for limit in plan.limits}) == len(plan.limits), "a quantile has two limits"),
        (
            plan.first_request_ms is None or plan.first_request_ms < timeout_ms,
            f"first_request_ms is {plan.first_request_ms or 0:g}, must be below timeout_s",
        ),
        *(
            (limit.limit_ms < timeout_ms, f"{limit.name} <= {limit.limit_ms:g} ms must be below timeout_s")
            for limit in plan.limits
        ),
    ]
    _refuse("plan", rules)


def _refuse(where: str, rules: Sequence[tuple[bool, str]]) -> None:
    for holds, message in rules:
        if not holds:
            raise PlanError(f"{where}: {message}")


def _check_evidence(plan: Plan) -> None:
    """Refuse a run that is too short to prove anything, and say all that it lacks."""
    lacks = (
        []
        if plan.duration_s >= MIN_DURATION_S
        else [f"plan: duration_s is {plan.duration_s:g}, must be {MIN_DURATION_S} or more"]
    )
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
    in_block = int(plan.rate_per_s * comparison.block_s)
    sent = f"{plan.rate_per_s:g} req/s x {comparison.block_s:g} s"
    rules = [
        (comparison.host != plan.host, f"host {comparison.host!r} is the candidate's own"),
        (
            in_block >= MIN_BLOCK_REQUESTS,
            f"p99 needs at least {MIN_BLOCK_REQUESTS} requests in a block, {sent} gives {in_block:,}",
        ),
        (
            comparison.tolerance_ms < plan.strictest_ms,
            f"tolerance_ms is {comparison.tolerance_ms:g}, must be below {plan.strictest_ms:g} ms",
        ),
    ]
    _refuse("comparison", rules)
