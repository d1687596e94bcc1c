"""Gathers what is wrong with a file or its values, so that one run names all of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.domain.texts import one_line
from pipelines.errors import UsageError
from pipelines.training.reading.table import Table

# So many are named of what is wrong in the same way.
NAMED = 5
_VALUE_CHARS = 60


class Refusals:
    """What is wrong with `source`, one line each; `add` what was found, then `end`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Note something that is wrong."""
        self._lines.append(line)

    def add_each(self, why: str, what: Sequence[str]) -> None:
        """Note many things that are wrong in the same way: the first few by name, and how many there are."""
        if what:
            self.add(f"{why} {', '.join(what[:NAMED])}{f' ({len(what):,} in all)' if len(what) > NAMED else ''}")

    def add_values(self, table: Table, column: str, wrong: NDArray[np.bool_], why: str) -> None:
        """Note values of a column, each with its place."""
        found = np.flatnonzero(wrong)
        texts = table.columns[column]
        named = [f"{quoted(str(texts[i]))} in {table.unit} {table.places[i]}" for i in found[:NAMED]]
        if named:
            count = f" ({len(found):,} such values)" if len(found) > 1 else ""
            self.add(f"column {column}: {', '.join(named)} {why}{count}")

    def end(self, *, next: str) -> None:
        """Raise UsageError with all that was noted, if anything was."""
        if len(self._lines) == 1:
            raise UsageError(f"{self._source}: {self._lines[0]}", next=next)
        if self._lines:
            listed = "\n".join(f"  {line}" for line in self._lines)
            raise UsageError(f"{self._source}: {len(self._lines)} things are wrong\n{listed}", next=next)


def quoted(value: str) -> str:
    """Return a value of the data as a message shows it: quoted, in one line, and not long."""
    return repr(one_line(value, _VALUE_CHARS))
