"""Say what a check found; a check's no always opens with `FAIL: <name>=<observed> > <limit>`."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check, or all of them together, concludes; only `passed` goes on."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One rule over the measurements, in the unit of its limit; a check that is not `judged` only informs."""

    name: str
    verdict: Verdict
    observed: float | None
    limit: float | None
    message: str
    interval: tuple[float, float] | None = None
    judged: bool = True


def failure(name: str, observed: float, limit: float, *, unit: str, details: str) -> str:
    """Write a no in the form that people and scripts rely on."""
    unit = f" {unit}" if unit else ""
    return f"FAIL: {name}={observed:.4f}{unit} > {limit:g}{unit} ({details})"
