"""The plan of a load run, fixed beforehand."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from loadtests.plan.personas import ONLY_SINGLE, Mix, scorer_of
from loadtests.plan.shapes import STEADY, Shape, expected_requests

MIN_BLOCKS = 10
MIN_BLOCK_REQUESTS = 100
ALPHA = 0.05


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
    """A comparison with the champion at `host`, in short blocks that measure both arms one after the other.

    Block 1 takes the candidate first, block 2 the champion, and so on (ABBA). Each arm of a block is loaded for
    `warmup_s`, which does not count, then measured for `block_s`, at the plan's own rate, path and rows. A p99
    that differs by less than `tolerance_ms` is no difference, whatever its ratio.
    """

    host: str
    expected_version: str
    blocks: int
    block_s: float
    warmup_s: float
    margin: float
    tolerance_ms: float


@dataclass(frozen=True)
class Join:
    """Where the workers of other machines join each phase, and how long at most they are waited for."""

    port: int
    wait_s: int


@dataclass(frozen=True)
class Plan:
    """A load run fixed beforehand: `duration_s` is one look's, `rate_per_s` that of all workers together.

    The rate is the highest of the `shape`; `mix` says who sends. `via` names the path measured, where it is known.
    Whoever has just deployed the service may say how long its first request took, for `first_request_ms` to judge.
    With `join` the workers are not processes of this machine: they join the run from others (loadtests.runner.join).
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
    first_request_took_ms: float | None = None
    comparison: ComparisonPlan | None = None
    shape: Shape = STEADY
    mix: Mix = ONLY_SINGLE
    via: Via | None = None
    join: Join | None = None

    @property
    def looks(self) -> int:
        """Count the looks planned: two when an inconclusive one may be extended."""
        return 2 if self.extension else 1

    @property
    def alpha(self) -> float:
        """Return the error probability of each look, so that all looks together keep 5 %."""
        return ALPHA / self.looks

    def look_name(self, number: int) -> str:
        """Name the `number`th look as people do."""
        if self.looks == 1:
            return "only look"
        return "first of two looks" if number == 1 else "second of two looks"

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
    def judged_share(self) -> float:
        """Return the share of requests that go to `path` and are meant to be answered."""
        return dict(self.mix).get(scorer_of(self.path), 0.0)


def min_requests(share: float, alpha: float) -> int:
    """Return the fewest requests that can prove a share of bad ones below `share`: all of them good."""
    return math.ceil(math.log(alpha) / math.log1p(-share))
