"""Five answers a gate can give, and the one rule that adds them up.

No evidence is never a pass: only PASSED and NOT_APPLICABLE go on.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

from pydantic import PlainSerializer, TypeAdapter


class Verdict(StrEnum):
    """The answer of a gate or of a whole report."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"

    @property
    def goes_on(self) -> bool:
        """Whether a version may go on with this answer."""
        return self in (Verdict.PASSED, Verdict.NOT_APPLICABLE)


# The worst answer of a report is the report's: a plain no outweighs a missing measurement.
_SEVERITY = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _finite_pair(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    return pair if pair is not None and all(map(math.isfinite, pair)) else None


Number = Annotated[float | None, PlainSerializer(_finite, return_type=float | None)]
Interval = Annotated[tuple[float, float] | None, PlainSerializer(_finite_pair, return_type=tuple[float, float] | None)]


@dataclass(frozen=True)
class GateResult:
    """One rule over measurements, judged.

    `interval` is the confidence interval of `observed` in its own unit, `limit` the bound judged
    against; all three are None where the gate measures nothing numeric.
    """

    name: str
    verdict: Verdict
    message: str
    observed: Number = None
    interval: Interval = None
    limit: float | None = None

    @property
    def gate(self) -> str:
        """The gate it belongs to: a result named `gate.part` is one of several."""
        return self.name.split(".")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the form that stands in a report; JSON knows no NaN or infinity, `message` still says it."""
        body: dict[str, Any] = _json_form().dump_python(self, mode="json")
        return body

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "GateResult":
        """Rebuild what `as_dict` wrote."""
        return _json_form().validate_python(body)


@cache
def _json_form() -> TypeAdapter[GateResult]:
    return TypeAdapter(GateResult)


def overall(results: Iterable[GateResult], *, overridden: frozenset[str] = frozenset()) -> Verdict:
    """Return the verdict of all `results`, leaving out the gates named in `overridden`.

    Nothing measured at all is INCONCLUSIVE.
    """
    counted = [result.verdict for result in results if result.gate not in overridden]
    for verdict in _SEVERITY:
        if verdict in counted:
            return verdict
    return Verdict.PASSED if counted else Verdict.INCONCLUSIVE
