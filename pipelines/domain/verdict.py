"""Five answers a gate can give, and the one rule that adds them up.

No evidence is never a pass: only PASSED and NOT_APPLICABLE go on.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, TypeAdapter

from pipelines.domain.texts import one_line


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


_MOST_COLUMNS, _MOST_ROWS, _MOST_CELL_CHARS = 12, 60, 200
Cell = str | int | Number


@dataclass(frozen=True)
class Table:
    """What a result rests on, for people: at most 60 rows, of a cell for each of at most 12 columns."""

    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST_COLUMNS)]
    rows: Annotated[tuple[tuple[Cell, ...], ...], Field(max_length=_MOST_ROWS)]

    def printable(self) -> "Table":
        """Return it in texts of one short line, for what a stranger has named may be anything."""
        rows = tuple(tuple(_shown(cell) for cell in row[: len(self.columns)]) for row in self.rows[:_MOST_ROWS])
        return Table(tuple(one_line(name, _MOST_CELL_CHARS) for name in self.columns), rows)


def _shown(cell: Cell) -> Cell:
    return one_line(cell, _MOST_CELL_CHARS) if isinstance(cell, str) else cell


@dataclass(frozen=True)
class GateResult:
    """One rule over measurements, judged.

    `interval` is the confidence interval of `observed` in its own unit, `limit` the bound judged against, and `margin`
    what may lie between them; they are None where the gate measures nothing numeric. With `warn_only` the policy lets a
    version go on whatever the verdict is. `table` is what people may want to see of it.
    """

    name: str
    verdict: Verdict
    message: str
    observed: Number = None
    interval: Interval = None
    limit: float | None = None
    margin: float | None = None
    warn_only: bool = False
    table: Table | None = None

    @property
    def gate(self) -> str:
        """The gate it belongs to: a result named `gate.part` is one of several."""
        return self.name.split(".")[0]

    @property
    def goes_on(self) -> bool:
        """Whether a version may go on with it."""
        return self.warn_only or self.verdict.goes_on

    def printable(self) -> "GateResult":
        """Return it in words of one line: what a version has answered stands in them, and may be anything."""
        table = self.table.printable() if self.table else None
        return replace(self, message=one_line(self.message), table=table)

    def as_dict(self) -> dict[str, Any]:
        """Return the form that stands in a report; JSON knows no NaN or infinity, `message` still says it.

        What reports did not say at first is left out where it says nothing: people approved them by their digest.
        """
        body: dict[str, Any] = _json_form().dump_python(self, mode="json")
        return {key: value for key, value in body.items() if key not in _LATER or value != _LATER[key]}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "GateResult":
        """Rebuild what `as_dict` wrote."""
        return _json_form().validate_python(body)


_LATER: dict[str, Any] = {"margin": None, "warn_only": False, "table": None}


@cache
def _json_form() -> TypeAdapter[GateResult]:
    return TypeAdapter(GateResult)


def overall(results: Iterable[GateResult], *, overridden: frozenset[str] = frozenset()) -> Verdict:
    """Return the verdict of all `results`, leaving out the gates named in `overridden`.

    What only warns counts as passed. Nothing measured at all is INCONCLUSIVE.
    """
    counted = [
        Verdict.PASSED if result.goes_on else result.verdict for result in results if result.gate not in overridden
    ]
    for verdict in _SEVERITY:
        if verdict in counted:
            return verdict
    return Verdict.PASSED if counted else Verdict.INCONCLUSIVE
