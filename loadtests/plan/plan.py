"""The plan of a load run, fixed beforehand: the one definition of the format of plan.json.

docs/reference/load-plan.schema.json describes it for whoever writes plans without importing this package.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, WithJsonSchema
from pydantic.dataclasses import dataclass

from loadtests.plan.personas import Mix, Weights, scorer_of, shares_of
from loadtests.plan.shapes import STEADY, Shape, ShapeKind, expected_requests, named_shape
from loadtests.plan.strict import STRICT, FileSchema, Left

MIN_BLOCKS = 10
# A raw file counts the turns of a run in 16 bits, two to a block.
MAX_BLOCKS = 10_000
MIN_BLOCK_REQUESTS = 100
MAX_MARGIN = 2
MAX_RATE_PER_S = 1_000_000
MAX_S = 24 * 3600
ALPHA = 0.05
LEAST_SHARE = 1e-9


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


def _is_plain(text: str) -> bool:
    """Tell whether text can stand in the head of a request as it is."""
    return text.isascii() and text.isprintable() and " " not in text


def _host(text: str) -> str:
    try:
        # Both are parsed when asked for, and refuse a port out of range and a name that can't be looked up.
        url = urlsplit(text)
        named = bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:
        named = False
    bare = named and url.path in ("", "/") and not (url.query or url.fragment or url.username)
    if not (bare and _is_plain(text) and url.scheme in ("http", "https")):
        raise ValueError("not an http URL of a host")
    return text


def _path(text: str) -> str:
    if not (text.startswith("/") and _is_plain(text)):
        raise ValueError("must start with / and be ASCII without spaces, the rest percent-encoded")
    return text


def _share(value: float) -> float:
    if not LEAST_SHARE <= value <= 1 - LEAST_SHARE:
        raise ValueError(f"must be between 0 and 1, and {LEAST_SHARE:g} off both")
    return value


Host = Annotated[str, AfterValidator(_host)]
Route = Annotated[str, AfterValidator(_path)]
Version = Annotated[str, Field(min_length=1)]
Share = Annotated[
    float,
    AfterValidator(_share),
    WithJsonSchema({"type": "number", "minimum": LEAST_SHARE, "maximum": 1 - LEAST_SHARE}),
]
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=MAX_S)]
WarmupSeconds = Annotated[float, Field(ge=0, le=MAX_S)]


@dataclass(frozen=True, config=STRICT)
class Limit:
    """Claim that the `quantile` of latencies is at most `limit_ms`; only shown where it is not `judged`."""

    quantile: Share
    limit_ms: Positive
    judged: bool

    @property
    def name(self) -> str:
        """Name the quantile as people do: p95, p99.9."""
        return f"p{self.quantile * 100:g}"


@dataclass(frozen=True, config=STRICT)
class ComparisonPlan:
    """A comparison with the champion at `host`, in short blocks that measure both arms one after the other.

    Block 1 takes the candidate first, block 2 the champion, and so on (ABBA). Each arm of a block is loaded for
    `warmup_s`, which does not count, then measured for `block_s`, at the plan's own rate, path and rows. A p99
    that differs by less than `tolerance_ms` is no difference, whatever its ratio.
    """

    host: Host
    expected_version: Version
    blocks: Annotated[int, Field(ge=MIN_BLOCKS, le=MAX_BLOCKS)]
    block_s: Seconds
    warmup_s: WarmupSeconds
    margin: Annotated[float, Field(gt=1, le=MAX_MARGIN)]
    tolerance_ms: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Join:
    """Where the workers of other machines join each phase, and how long at most they are waited for."""

    port: Annotated[int, Field(ge=1, le=65535)]
    wait_s: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class Plan:
    """A load run fixed beforehand: `duration_s` is one look's, `rate_per_s` that of all workers together.

    The rate is the highest of the `shape`; `mix` says who sends, by weights; left out, it is the client of the `path`.
    `via` names the path measured, where it is known. Whoever has just deployed the service may say how long its first
    request took, for `first_request_ms` to judge. With `join` the workers are not processes of this machine: they
    join the run from others (loadtests.runner.join).
    """

    host: Host
    path: Route
    rate_per_s: Annotated[float, Field(gt=0, le=MAX_RATE_PER_S)]
    warmup_s: WarmupSeconds
    duration_s: Seconds
    arrivals: Arrivals
    seed: Annotated[int, Field(ge=0)]
    timeout_s: Seconds
    max_in_flight: Annotated[int, Field(ge=1)]
    workers: Annotated[int, Field(ge=1)]
    expected_version: Version
    rows_file: Path
    limits: tuple[Limit, ...]
    max_error_rate: Share
    max_stall_s: Positive
    extension: bool
    first_request_ms: Annotated[Positive | None, Left] = None
    first_request_took_ms: Annotated[float | None, Left] = None
    comparison: Annotated[ComparisonPlan | None, Left] = None
    shape: Annotated[Shape, BeforeValidator(named_shape, json_schema_input_type=ShapeKind | Shape)] = STEADY
    mix: Annotated[Weights | None, Left] = None
    via: Annotated[Via | None, Left] = None
    join: Annotated[Join | None, Left] = None

    @property
    def shares(self) -> Mix:
        """Return who sends which share of the requests."""
        return shares_of(self.mix or {scorer_of(self.path): 1.0})

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
        return dict(self.shares).get(scorer_of(self.path), 0.0)


def min_requests(share: float, alpha: float) -> int:
    """Return the fewest requests that can prove a share of bad ones below `share`: all of them good."""
    return math.ceil(math.log(alpha) / math.log1p(-share))


PLAN = TypeAdapter(Plan)


def describe_plan() -> dict[str, Any]:
    """Return the JSON Schema of plan.json."""
    return PLAN.json_schema(schema_generator=FileSchema)
