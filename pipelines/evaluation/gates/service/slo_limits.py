"""The section `slo` of a policy: the latency SLO of each route, and the load it is measured under.

A claim that the requests planned could not prove, were all of them good, is refused.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipelines.domain.sections import Profile, Section, refuse_unless
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.gate import Limits

PREDICT: Literal["/predict"] = "/predict"
BATCH: Literal["/predict/batch"] = "/predict/batch"
ALPHA = 0.05
MIN_BLOCK_REQUESTS = 100
MOST_REQUESTS = 10**15
MOST_WORKERS = 64
# The shortest look: in a shorter one than of full evidence, slow requests in bursts pass too often.
LEAST_S = {Profile.FULL: 60, Profile.DEMO: 10}
_PATH = "policy.slo"

Rate = Annotated[float, Field(gt=0, le=10_000)]


class Arrivals(StrEnum):
    """How the load run spaces its requests."""

    POISSON = "poisson"
    FIXED = "fixed"


class QuantileLimit(Section):
    """`quantile` of the latency is at most `limit_ms`; only shown unless `judged`."""

    quantile: float
    limit_ms: float
    judged: bool


class LoadComparison(Section):
    """How p99 is compared with the champion's, in blocks that load both in turn.

    The ratio must stay below `margin`; a difference below `tolerance_ms` is none, whatever its ratio.
    """

    blocks: int = Field(ge=10, le=1000, description="how many blocks, each of which loads both in turn")
    block_s: float = Field(gt=0, le=600, description="seconds of a turn, of which each has one in a block")
    warmup_s: float = Field(ge=0, le=60, description="seconds before each turn that are not judged")
    margin: float = Field(gt=1, le=2, description="what the ratio of p99 has to be proven below")
    tolerance_ms: float = Field(ge=0, description="a smaller difference of p99 in the typical block does not count")


class RouteSlo(Section):
    """The limits of one more route, at a rate of its own; all else is as for the first."""

    route: Literal["/predict/batch"]
    rate_per_s: Rate
    quantiles: tuple[QuantileLimit, ...] = Field(min_length=1, strict=False)


class SloLimits(Limits):
    """The latency SLO of one route and the load it is measured under; `routes` has those of others.

    The load comes from one worker, or from as many as `workers` says, each with a core.
    """

    route: Literal["/predict"] = Field(PREDICT, description="what is asked under load")
    rate_per_s: Rate = Field(200, description="requests a second, whatever the answers")
    arrivals: Arrivals = Field(Arrivals.POISSON, strict=False, description="how requests are spaced")
    warmup_s: float = Field(5, ge=0, le=600, description="seconds that are not judged")
    duration_s: float = Field(60, gt=0, le=3600, description="seconds of one look: 60 or more, of the demo profile 10")
    extension: bool = Field(True, description="whether a second look follows one that can't decide")
    quantiles: tuple[QuantileLimit, ...] = Field(
        (
            QuantileLimit(quantile=0.95, limit_ms=50, judged=True),
            QuantileLimit(quantile=0.99, limit_ms=100, judged=True),
        ),
        min_length=1,
        strict=False,
        description="limits of latency, each judged or only shown",
    )
    max_error_rate: float = Field(0.005, gt=0, lt=1, description="the share of requests without their right answer")
    max_stall_s: float = Field(1, gt=0, le=60, description="the longest time without any answer, shorter than a look")
    timeout_s: float = Field(5, gt=0, le=60, description="after which a request has failed")
    first_request_ms: float | None = Field(None, gt=0, description="limit of the first request after a deploy")
    workers: int | None = Field(None, ge=1, le=MOST_WORKERS, description="how many processes send, each with a core")
    comparison: LoadComparison | Literal[False] = Field(
        LoadComparison(blocks=100, block_s=1, warmup_s=0.2, margin=1.1, tolerance_ms=2),
        description="how p99 is compared with production's; false for not at all",
    )
    routes: tuple[RouteSlo, ...] = Field(
        (), min_length=1, strict=False, description="other routes, at rates and with limits of their own"
    )

    @field_validator("comparison", mode="before")
    @classmethod
    def _refuse_what_only_equals_false(cls, given: object) -> object:
        if given is False or isinstance(given, Mapping | LoadComparison):
            return given
        raise PydanticCustomError("section_or_false", "neither a section nor false")

    @property
    def looks(self) -> int:
        """Count the looks planned."""
        return 2 if self.extension else 1

    def each_route(self) -> tuple["SloLimits", ...]:
        """Return one SLO a route, this one's first; what has a limit on the first route only is not repeated."""
        shared = {"first_request_ms": None, "comparison": False, "routes": ()}
        others = (
            self.model_copy(update={**shared, **{key: getattr(other, key) for key in RouteSlo.model_fields}})
            for other in self.routes
        )
        return (self.model_copy(update={"routes": ()}), *others)

    def check(self, profile: Profile) -> None:
        """Refuse limits that nothing or everything would meet, and claims that the load could never prove."""
        least_s = LEAST_S[profile]
        refuse_unless(
            [
                (len(self.routes) <= 1, f"{_PATH}.routes", f"{BATCH}, once"),
                (
                    least_s <= self.duration_s,
                    f"{_PATH}.duration_s",
                    f"{least_s} to 3,600 where profile is {profile}",
                ),
                (
                    self.max_stall_s < self.duration_s,
                    f"{_PATH}.max_stall_s",
                    "below duration_s, or nothing would be a stall",
                ),
                (self._in_time(self.first_request_ms), f"{_PATH}.first_request_ms", "above 0 and below timeout_s"),
            ]
        )
        for number, each in enumerate(self.each_route()):
            where = f"{_PATH}.routes[{number - 1}]" if number else _PATH
            each._check_route(where)
            each._check_evidence(where)
        if self.comparison:
            self._check_comparison(self.comparison, f"{_PATH}.comparison")

    def _in_time(self, limit_ms: float | None) -> bool:
        return limit_ms is None or 0 < limit_ms < self.timeout_s * 1000

    def _check_route(self, where: str) -> None:
        limits, path = self.quantiles, f"{where}.quantiles"
        in_order = sorted(limits, key=lambda limit: limit.quantile)
        rising = all(lower.limit_ms <= higher.limit_ms for lower, higher in pairwise(in_order))
        # Each worker has to be able to wait for a request.
        most = math.ceil(min(MOST_WORKERS, self.rate_per_s * self.timeout_s))
        refuse_unless(
            [
                (any(limit.judged for limit in limits), path, "at least one judged quantile"),
                (all(0 < 1 - q.quantile < 1 for q in limits), path, "quantiles between 0 and 1"),
                (len({q.quantile for q in limits}) == len(limits), path, "one limit a quantile"),
                (all(self._in_time(q.limit_ms) for q in limits), path, "limits above 0 ms, below timeout_s"),
                (rising, path, "no limit below that of a lower quantile, which it would include"),
                (self.workers is None or self.workers <= most, f"{where}.workers", f"1 to {most}"),
            ]
        )

    def _check_evidence(self, where: str) -> None:
        """Refuse a claim that the requests planned could not prove, were all of them good."""
        planned = int(self.rate_per_s * self.duration_s)
        sent = f"{self.rate_per_s:g} req/s x {self.duration_s:g} s"
        claims = [(f"p{q.quantile * 100:g}", 1 - q.quantile, planned, sent) for q in self.quantiles if q.judged]
        looks = f" x {self.looks} looks" if self.extension else ""
        errors = f"errors <= {self.max_error_rate * 100:g} %"
        claims.append((errors, self.max_error_rate, planned * self.looks, sent + looks))
        for claim, share, requests, given in claims:
            needed = math.ceil(min(MOST_REQUESTS, math.log(ALPHA / self.looks) / math.log1p(-share)))
            if requests < needed:
                raise PolicyInvalid(
                    f"{where}: {claim} needs at least {needed:,} requests, {given} gives {requests:,}",
                    next="a higher rate_per_s, a longer duration_s, or a limit that these can prove",
                )

    def _check_comparison(self, comparison: LoadComparison, where: str) -> None:
        strictest_ms = min(limit.limit_ms for limit in self.quantiles if limit.judged)
        enough = self.rate_per_s * comparison.block_s >= MIN_BLOCK_REQUESTS
        requests = f"at least {MIN_BLOCK_REQUESTS} requests at rate_per_s, at most 600"
        refuse_unless(
            [
                (enough, f"{where}.block_s", requests),
                (
                    comparison.tolerance_ms < strictest_ms,
                    f"{where}.tolerance_ms",
                    "0 or more, below every judged limit",
                ),
            ]
        )
