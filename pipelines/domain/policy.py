"""The policy in force: every limit a version is judged by, parsed strictly."""

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.policy_reading import build
from pipelines.errors import PolicyInvalid

PREDICT, BATCH = "/predict", "/predict/batch"
ALPHA = 0.05
MIN_BLOCK_REQUESTS = 100
MOST_REQUESTS = 10**15


class Profile(StrEnum):
    """How thorough the evidence is: `demo` runs are short and marked."""

    FULL = "full"
    DEMO = "demo"

    @property
    def least_s(self) -> int:
        """The shortest look: in a shorter one than of full evidence, slow requests in bursts pass too often."""
        return 60 if self is Profile.FULL else 10


class Arrivals(StrEnum):
    """How the load run spaces its requests."""

    POISSON = "poisson"
    FIXED = "fixed"


@dataclass(frozen=True)
class Accuracy:
    """Limit on the share of right predictions on the evaluation set."""

    minimum: float


@dataclass(frozen=True)
class Comparison:
    """Non-inferiority margin on ROC AUC against the champion."""

    margin: float


@dataclass(frozen=True)
class Parity:
    """Largest allowed difference of a probability between ONNX and scikit-learn."""

    tolerance: float


@dataclass(frozen=True)
class Gates:
    """Limits of the gates that need no running service."""

    accuracy: Accuracy
    comparison: Comparison
    parity: Parity


@dataclass(frozen=True)
class QuantileLimit:
    """`quantile` of the latency is at most `limit_ms`; only shown unless `judged`."""

    quantile: float
    limit_ms: float
    judged: bool


@dataclass(frozen=True)
class LoadComparison:
    """How p99 is compared with the champion's, in blocks that load both in turn.

    The ratio must stay below `margin`; a difference below `tolerance_ms` is none, whatever its ratio.
    """

    blocks: int
    block_s: float
    warmup_s: float
    margin: float
    tolerance_ms: float


@dataclass(frozen=True)
class RouteSlo:
    """The limits of one more route, at a rate of its own; all else is as for the first."""

    route: str
    rate_per_s: float
    quantiles: tuple[QuantileLimit, ...]


@dataclass(frozen=True)
class Slo:
    """The latency SLO of one route and the load it is measured under; `routes` has those of others."""

    route: str
    rate_per_s: float
    arrivals: Arrivals
    warmup_s: float
    duration_s: float
    extension: bool
    quantiles: tuple[QuantileLimit, ...]
    max_error_rate: float
    max_stall_s: float
    timeout_s: float
    first_request_ms: float | None = None
    comparison: LoadComparison | None = None
    routes: tuple[RouteSlo, ...] = ()

    @property
    def looks(self) -> int:
        """Count the looks planned."""
        return 2 if self.extension else 1

    def each_route(self) -> tuple["Slo", ...]:
        """Return one SLO a route, this one's first; what has a limit on the first route only is not repeated."""
        shared = dataclasses.replace(self, first_request_ms=None, comparison=None, routes=())
        others = (
            dataclasses.replace(shared, route=other.route, rate_per_s=other.rate_per_s, quantiles=other.quantiles)
            for other in self.routes
        )
        return (dataclasses.replace(self, routes=()), *others)


@dataclass(frozen=True)
class Approvals:
    """How many people must say yes, and how long a request waits for them."""

    count: int
    valid_h: float


@dataclass(frozen=True)
class Production:
    """Profiles whose reports may carry a version into production."""

    accepts: tuple[Profile, ...]


@dataclass(frozen=True)
class Policy:
    """All limits, with the digest that reports and approvals are bound to."""

    schema_version: int
    profile: Profile
    gates: Gates
    slo: Slo
    approvals: Approvals
    production: Production

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical policy: comments, key order and what is left out do not count."""
        return digest_of(canonical(self.body))

    @property
    def body(self) -> dict[str, Any]:
        """The policy as JSON that `parse` takes, without what is left out."""
        return dataclasses.asdict(self, dict_factory=_given)

    @classmethod
    def parse(cls, body: object) -> "Policy":
        """Build a policy from parsed YAML or JSON; raise PolicyInvalid naming the key."""
        policy: Policy = build(cls, body, "policy")
        _check_limits(policy)
        return policy


def _given(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None and value != ()}


def _check_limits(policy: Policy) -> None:
    """Refuse limits that nothing or everything would meet."""
    slo, profile, least_s = policy.slo, policy.profile, policy.profile.least_s
    rules = [
        (policy.schema_version == 1, "policy.schema_version", "1"),
        (0 <= policy.gates.accuracy.minimum <= 1, "policy.gates.accuracy.minimum", "0 to 1"),
        (0 < policy.gates.comparison.margin < 1, "policy.gates.comparison.margin", "above 0 and below 1"),
        (0 < policy.gates.parity.tolerance <= 0.001, "policy.gates.parity.tolerance", "above 0, at most 0.001"),
        (slo.route == PREDICT, "policy.slo.route", PREDICT),
        ([other.route for other in slo.routes] in ([], [BATCH]), "policy.slo.routes", f"{BATCH}, once"),
        (0 <= slo.warmup_s <= 600, "policy.slo.warmup_s", "0 to 600"),
        (least_s <= slo.duration_s <= 3600, "policy.slo.duration_s", f"{least_s} to 3,600 where profile is {profile}"),
        (0 < slo.max_error_rate < 1, "policy.slo.max_error_rate", "above 0 and below 1"),
        (0 < slo.max_stall_s <= 60, "policy.slo.max_stall_s", "above 0, at most 60"),
        (slo.max_stall_s < slo.duration_s, "policy.slo.max_stall_s", "below duration_s, or nothing would be a stall"),
        (0 < slo.timeout_s <= 60, "policy.slo.timeout_s", "above 0, at most 60"),
        (_below_timeout(slo.first_request_ms, slo), "policy.slo.first_request_ms", "above 0 and below timeout_s"),
        (1 <= policy.approvals.count <= 10, "policy.approvals.count", "1 to 10"),
        (0 < policy.approvals.valid_h <= 720, "policy.approvals.valid_h", "above 0, at most 720"),
    ]
    _refuse(rules)
    for number, each in enumerate(slo.each_route()):
        where = f"policy.slo.routes[{number - 1}]" if number else "policy.slo"
        _refuse(_route_rules(each, where))
        _check_evidence(each, where)
    if slo.comparison:
        _refuse(_comparison_rules(slo, slo.comparison))


def _refuse(rules: list[tuple[bool, str, str]]) -> None:
    for holds, path, legal in rules:
        if not holds:
            raise PolicyInvalid(f"{path} is out of range", next=f"legal: {legal}")


def _below_timeout(limit_ms: float | None, slo: Slo) -> bool:
    return limit_ms is None or 0 < limit_ms < slo.timeout_s * 1000


def _rising(limits: tuple[QuantileLimit, ...]) -> bool:
    in_order = sorted(limits, key=lambda limit: limit.quantile)
    return all(lower.limit_ms <= higher.limit_ms for lower, higher in pairwise(in_order))


def _route_rules(slo: Slo, where: str) -> list[tuple[bool, str, str]]:
    quantiles = f"{where}.quantiles"
    return [
        (0 < slo.rate_per_s <= 10_000, f"{where}.rate_per_s", "above 0, at most 10,000"),
        (any(limit.judged for limit in slo.quantiles), quantiles, "at least one judged quantile"),
        (all(0 < 1 - q.quantile < 1 for q in slo.quantiles), quantiles, "quantiles between 0 and 1"),
        (len({q.quantile for q in slo.quantiles}) == len(slo.quantiles), quantiles, "one limit a quantile"),
        (all(_below_timeout(q.limit_ms, slo) for q in slo.quantiles), quantiles, "limits above 0 ms, below timeout_s"),
        (_rising(slo.quantiles), quantiles, "no limit below that of a lower quantile, which it would include"),
    ]


def _comparison_rules(slo: Slo, comparison: LoadComparison) -> list[tuple[bool, str, str]]:
    where = "policy.slo.comparison"
    strictest_ms = min(limit.limit_ms for limit in slo.quantiles if limit.judged)
    return [
        (10 <= comparison.blocks <= 1000, f"{where}.blocks", "10 to 1,000"),
        (
            slo.rate_per_s * comparison.block_s >= MIN_BLOCK_REQUESTS and comparison.block_s <= 600,
            f"{where}.block_s",
            f"at least {MIN_BLOCK_REQUESTS} requests at rate_per_s, at most 600",
        ),
        (0 <= comparison.warmup_s <= 60, f"{where}.warmup_s", "0 to 60"),
        (1 < comparison.margin <= 2, f"{where}.margin", "above 1, at most 2"),
        (0 <= comparison.tolerance_ms < strictest_ms, f"{where}.tolerance_ms", "0 or more, below every judged limit"),
    ]


def _check_evidence(slo: Slo, where: str) -> None:
    """Refuse a claim that the requests planned could not prove, were all of them good."""
    planned = int(slo.rate_per_s * slo.duration_s)
    sent = f"{slo.rate_per_s:g} req/s x {slo.duration_s:g} s"
    claims = [(f"p{q.quantile * 100:g}", 1 - q.quantile, planned, sent) for q in slo.quantiles if q.judged]
    looks = f" x {slo.looks} looks" if slo.extension else ""
    errors = f"errors <= {slo.max_error_rate * 100:g} %"
    claims.append((errors, slo.max_error_rate, planned * slo.looks, sent + looks))
    for claim, share, requests, given in claims:
        needed = math.ceil(min(MOST_REQUESTS, math.log(ALPHA / slo.looks) / math.log1p(-share)))
        if requests < needed:
            raise PolicyInvalid(
                f"{where}: {claim} needs at least {needed:,} requests, {given} gives {requests:,}",
                next="a higher rate_per_s, a longer duration_s, or a limit that these can prove",
            )
