"""Five answers a gate can give, and the one rule that adds them up.

No evidence is never a pass: only PASSED and NOT_APPLICABLE go on.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True)
class GateResult:
    """One rule over measurements, judged.

    `interval` is the confidence interval of `observed` in its own unit, `limit` the bound judged
    against; all three are None where the gate measures nothing numeric.
    """

    name: str
    verdict: Verdict
    message: str
    observed: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that stands in a report; JSON knows no NaN or infinity, `message` still says it."""
        body = asdict(self)
        body["verdict"] = str(self.verdict)
        body["observed"] = self.observed if _is_finite(self.observed) else None
        body["interval"] = list(self.interval) if self.interval and all(map(_is_finite, self.interval)) else None
        return body

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "GateResult":
        """Rebuild what `as_dict` wrote."""
        interval = body["interval"]
        return cls(
            name=body["name"],
            verdict=Verdict(body["verdict"]),
            message=body["message"],
            observed=body["observed"],
            interval=(interval[0], interval[1]) if interval else None,
            limit=body["limit"],
        )


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def overall(results: Iterable[GateResult], *, overridden: frozenset[str] = frozenset()) -> Verdict:
    """Return the verdict of all `results`, leaving out the gates named in `overridden`.

    A result named `gate.part` belongs to `gate`. Nothing measured at all is INCONCLUSIVE.
    """
    counted = [result.verdict for result in results if result.name.split(".")[0] not in overridden]
    for verdict in _SEVERITY:
        if verdict in counted:
            return verdict
    return Verdict.PASSED if counted else Verdict.INCONCLUSIVE
