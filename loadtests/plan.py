"""Read the plan of a load run; a plan that could never pass is refused before the first request is sent."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests.personas import ONLY_SINGLE, Mix, read_mix
from loadtests.samples import Persona
from loadtests.shapes import STEADY, Shape, ShapeKind, expected_requests, read_shape

MIN_DURATION_S = 10
ALPHA = 0.05
_AT_LEAST = f"must be {MIN_DURATION_S} or more"


class PlanError(Exception):
    """A plan, or a file that it names, can't be used; the message says which value and what is right."""


class Arrivals(StrEnum):
    """How arrivals are spaced in the open model."""

    POISSON = "poisson"
    FIXED = "fixed"


class Via(StrEnum):
    """What stands between the generator and the replicas."""

    EDGE = "edge"
    DIRECT = "direct"


@dataclass(frozen=True)
class Limit:
    """Claim that the `quantile` of latencies is at most `limit_ms`; only shown where it is not `judged`."""

    quantile: float
    limit_ms: float
    judged: bool

    @property
    def name(self) -> str:
        """Name the quantile as people do: p95, p99.9."""
        return f"p{self.quantile * 100:g}"


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison with the champion at `host`, in blocks that measure both arms one after the other.

    Block 1 takes the candidate first, block 2 the champion, and so on (ABBA). Each arm of a block is loaded for
    `warmup_s`, which does not count, and then measured for `block_s`, at the plan's own rate, path and rows.
    """

    host: str
    expected_version: str
    blocks: int
    block_s: float
    warmup_s: float
    margin: float


@dataclass(frozen=True)
class Plan:
    """A load run fixed beforehand: `duration_s` is one look's, `rate_per_s` that of all workers together.

    The rate is the highest of the `shape`; `mix` says who sends. `via` names the path measured, where it is known.
    """

    host: str
    path: str
    rate_per_s: float
    warmup_s: float
    duration_s: float
    arrivals: Arrivals
    seed: int
    timeout_s: float
    max_in_flight: int
    workers: int
    expected_version: str
    rows_file: Path
    limits: tuple[Limit, ...]
    max_error_rate: float
    max_stall_s: float
    extension: bool
    first_request_ms: float | None = None
    comparison: ComparisonPlan | None = None
    shape: Shape = STEADY
    mix: Mix = ONLY_SINGLE
    via: Via | None = None

    @property
    def looks(self) -> int:
        """Count the looks planned: two when an inconclusive one may be extended."""
        return 2 if self.extension else 1

    @property
    def alpha(self) -> float:
        """Return the error probability of each look, so that all looks together keep 5 %."""
        return ALPHA / self.looks

    @property
    def judged_limits(self) -> tuple[Limit, ...]:
        """Return the limits that decide."""
        return tuple(limit for limit in self.limits if limit.judged)

    @property
    def strictest_ms(self) -> float:
        """Return the smallest limit judged: the scale that the generator must resolve."""
        return min(limit.limit_ms for limit in self.judged_limits)

    @property
    def planned_requests(self) -> int:
        """Return how many requests one look is planned to measure."""
        return expected_requests(self.shape, self.rate_per_s, self.duration_s)

    @property
    def single_share(self) -> float:
        """Return the share of requests that go to `path` and are meant to be answered."""
        return dict(self.mix).get(Persona.SINGLE, 0.0)


def min_requests(share: float, alpha: float) -> int:
    """Return the fewest requests that can prove a share of bad ones below `share`: all of them good."""
    return math.ceil(math.log(alpha) / math.log1p(-share))


def read_plan(path: Path) -> Plan:
    """Read and check a plan file; raise PlanError on the first thing wrong."""
    data = _read_json(path, "plan")
    if not isinstance(data, dict):
        raise PlanError(f"plan {path} is not a JSON object")
    plan = _parse(data)
    _check_values(plan)
    _check_evidence(plan)
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
    except (OSError, ValueError) as error:
        raise PlanError(f"{what} {path} can't be read: {error}") from error


def _check_keys(data: Mapping[str, Any], kind: type, where: str) -> None:
    names = {field.name for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default is MISSING}
    for problem, keys in (("unknown", data.keys() - names), ("missing", required - data.keys())):
        if keys:
            raise PlanError(f"{where} has {problem} keys: {', '.join(sorted(keys))}")


def _typed(data: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    """Return `data` with every value checked against the type of its field; bool is never a number."""
    _check_keys(data, kind, where)
    values = {}
    for field in fields(kind):
        if field.name not in data:
            continue
        value = data[field.name]
        wanted: Any = {float: (int, float), Path: str, Arrivals: str}.get(field.type, field.type)  # type: ignore[arg-type]
        if wanted in (bool, int, str, (int, float)):
            right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
            if not right or (field.type is float and not math.isfinite(value)):
                raise PlanError(f"{where}: {field.name} is {value!r}, not a valid {_type_name(field.type)}")
        values[field.name] = value
    return values


def _type_name(kind: Any) -> str:
    return {float: "number", int: "integer", bool: "true or false"}.get(kind, "string")


def _parse(data: Mapping[str, Any]) -> Plan:
    values = _typed(data, Plan, "plan")
    try:
        values["arrivals"] = Arrivals(values["arrivals"])
    except ValueError as error:
        raise PlanError(f"plan: arrivals is {values['arrivals']!r}, not poisson or fixed") from error
    values["rows_file"] = Path(values["rows_file"])
    for name, read in (("shape", read_shape), ("mix", read_mix), ("via", Via)):
        if name in values:
            values[name] = _read(read, values[name])
    limits = values["limits"]
    if not isinstance(limits, list) or not all(isinstance(limit, dict) for limit in limits):
        raise PlanError('plan: limits must be a list of {"quantile", "limit_ms", "judged"}')
    values["limits"] = tuple(Limit(**_typed(limit, Limit, "limit")) for limit in limits)
    return Plan(**values)


def _read(read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise PlanError(f"plan: {error}") from error


def _check_values(plan: Plan) -> None:
    url = urlsplit(plan.host)
    rules = [
        (url.scheme in ("http", "https") and bool(url.hostname), f"host {plan.host!r} is not an http URL"),
        (plan.path.startswith("/"), f"path {plan.path!r} does not start with /"),
        (plan.rate_per_s > 0, f"rate_per_s is {plan.rate_per_s:g}, must be above 0"),
        (plan.warmup_s >= 0, f"warmup_s is {plan.warmup_s:g}, must be 0 or more"),
        (plan.duration_s > 0, f"duration_s is {plan.duration_s:g}, {_AT_LEAST}"),
        (plan.seed >= 0, f"seed is {plan.seed}, must be 0 or more"),
        (plan.timeout_s > 0, f"timeout_s is {plan.timeout_s:g}, must be above 0"),
        (1 <= plan.workers <= plan.max_in_flight, "workers must be from 1 to max_in_flight"),
        (bool(plan.expected_version), "expected_version is empty"),
        (0 < plan.max_error_rate < 1, f"max_error_rate is {plan.max_error_rate:g}, must be between 0 and 1"),
        (plan.max_stall_s > 0, f"max_stall_s is {plan.max_stall_s:g}, must be above 0"),
        (bool(plan.judged_limits), "no limit is judged"),
        (len({limit.name for limit in plan.limits}) == len(plan.limits), "a quantile has two limits"),
    ]
    for limit in plan.limits:
        rules += [
            (0 < limit.quantile < 1, f"quantile {limit.quantile:g} must be between 0 and 1"),
            (
                0 < limit.limit_ms < plan.timeout_s * 1000,
                f"{limit.name} <= {limit.limit_ms:g} ms must be above 0 and below timeout_s",
            ),
        ]
    for holds, message in rules:
        if not holds:
            raise PlanError(f"plan: {message}")


def _check_evidence(plan: Plan) -> None:
    """Refuse a run that is too short to prove anything, and say all that it lacks."""
    lacks = [] if plan.duration_s >= MIN_DURATION_S else [f"plan: duration_s is {plan.duration_s:g}, {_AT_LEAST}"]
    planned = plan.planned_requests
    sent = f"{plan.rate_per_s:g} req/s x {plan.duration_s:g} s"
    if plan.shape.kind not in (ShapeKind.STEADY, ShapeKind.SOAK):
        sent += f" as a {plan.shape.kind}"
    single = int(planned * plan.single_share)
    part = "" if plan.single_share == 1 else f", {plan.single_share:.0%} of them to {plan.path},"
    for limit in plan.judged_limits:
        needed = min_requests(1 - limit.quantile, plan.alpha)
        if single < needed:
            lacks.append(f"{limit.name} needs at least {needed:,} requests, {sent}{part} gives {single:,}")
    needed = min_requests(plan.max_error_rate, plan.alpha)
    if planned * plan.looks < needed:
        looks = f" x {plan.looks} looks" if plan.extension else ""
        lacks.append(
            f"errors <= {plan.max_error_rate * 100:g} % needs at least {needed:,} requests, "
            f"{sent}{looks} gives {planned * plan.looks:,}"
        )
    if lacks:
        raise PlanError("; ".join(lacks))
