"""The policy in force: every limit a version is judged by, parsed strictly.

An unknown key is refused rather than ignored, because a misspelt limit would be a gate switched off.
"""

import dataclasses
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args, get_origin

from pipelines.domain.bundle import canonical, digest_of
from pipelines.errors import PolicyInvalid

_LARGEST = sys.float_info.max


class Profile(StrEnum):
    """How thorough the evidence is: `demo` runs are short and marked."""

    FULL = "full"
    DEMO = "demo"


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
class Slo:
    """The latency SLO of one route and the load it is measured under."""

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
        """`sha256:<hex>` of the canonical policy: comments and key order do not count."""
        return digest_of(canonical(dataclasses.asdict(self)))

    @classmethod
    def parse(cls, body: object) -> "Policy":
        """Build a policy from parsed YAML or JSON; raise PolicyInvalid naming the key."""
        policy: Policy = _build(cls, body, "policy")
        _check_limits(policy)
        return policy


def _build(kind: Any, value: object, path: str) -> Any:
    """Convert `value` to the annotated type `kind`, strictly; `path` names it in refusals."""
    if dataclasses.is_dataclass(kind):
        return _build_section(kind, value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise _invalid(path, value, "a list with at least one entry")
        return tuple(_build(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise _invalid(path, value, "one of " + ", ".join(kind))
        return kind(value)
    # A comparison, since a whole number can be too large to become a float; NaN fails it as well.
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    raise _invalid(
        path, value, {float: "a finite number", int: "a whole number", bool: "true or false"}.get(kind, "text")
    )


def _build_section(kind: Any, value: object, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _invalid(path, value, "a section with keys")
    fields: Mapping[str, Any] = types.MappingProxyType({f.name: f.type for f in dataclasses.fields(kind)})
    for key in value:
        if key not in fields:
            raise PolicyInvalid(
                f"unknown policy key {str(key)[:60]!r} in {path}", next="known keys there: " + ", ".join(fields)
            )
    for name in fields:
        if name not in value:
            raise PolicyInvalid(f"policy key {name!r} is missing in {path}", next="policy.yaml shows every key")
    return kind(**{name: _build(field, value[name], f"{path}.{name}") for name, field in fields.items()})


def _invalid(path: str, value: object, wanted: str) -> PolicyInvalid:
    return PolicyInvalid(f"{path} is {str(value)[:60]!r}", next=f"give {wanted}")


def _check_limits(policy: Policy) -> None:
    """Refuse limits that nothing or everything would meet."""
    slo = policy.slo
    rules = [
        (policy.schema_version == 1, "policy.schema_version", "1"),
        (0 <= policy.gates.accuracy.minimum <= 1, "policy.gates.accuracy.minimum", "0 to 1"),
        (0 < policy.gates.comparison.margin < 1, "policy.gates.comparison.margin", "above 0 and below 1"),
        (0 < policy.gates.parity.tolerance <= 0.001, "policy.gates.parity.tolerance", "above 0, at most 0.001"),
        (slo.route == "/predict", "policy.slo.route", "/predict"),
        (0 < slo.rate_per_s <= 10_000, "policy.slo.rate_per_s", "above 0, at most 10,000"),
        (0 <= slo.warmup_s <= 600, "policy.slo.warmup_s", "0 to 600"),
        (10 <= slo.duration_s <= 3600, "policy.slo.duration_s", "10 to 3,600"),
        (any(limit.judged for limit in slo.quantiles), "policy.slo.quantiles", "at least one judged quantile"),
        (all(0 < q.quantile < 1 for q in slo.quantiles), "policy.slo.quantiles", "quantiles between 0 and 1"),
        (all(q.limit_ms > 0 for q in slo.quantiles), "policy.slo.quantiles", "limits above 0 ms"),
        (0 < slo.max_error_rate < 1, "policy.slo.max_error_rate", "above 0 and below 1"),
        (0 < slo.max_stall_s <= 60, "policy.slo.max_stall_s", "above 0, at most 60"),
        (0 < slo.timeout_s <= 60, "policy.slo.timeout_s", "above 0, at most 60"),
        (1 <= policy.approvals.count <= 10, "policy.approvals.count", "1 to 10"),
        (0 < policy.approvals.valid_h <= 720, "policy.approvals.valid_h", "above 0, at most 720"),
    ]
    for holds, path, legal in rules:
        if not holds:
            raise PolicyInvalid(f"{path} is out of range", next=f"legal: {legal}")
