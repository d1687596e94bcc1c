"""A source as it was read: texts by column, and where in the file each row stands."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Rows of a source; nothing in it has a type yet.

    `columns` holds a text for each row, `places` the number of the row's line (`unit` "line", counted from 1 with
    the header) or of the row itself (`unit` "row", counted from 1). `missing` are the texts that stand for no value,
    the blank one always among them. `written` is how the file was read, in the words of `source` in model.yaml.
    """

    name: str
    columns: dict[str, pa.StringArray]
    places: NDArray[np.int64]
    unit: str
    missing: frozenset[str]
    written: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def told(self) -> str:
        """How the file was read, for people."""
        return ", ".join(f"{name} {value!r}" for name, value in self.written.items())

    def trimmed(self, column: str) -> pa.StringArray:
        """Return the texts of a column without the blanks around them."""
        return pc.utf8_trim_whitespace(self.columns[column])

    def among(self, kept: NDArray[np.bool_]) -> Self:
        """Return the table of some of its rows."""
        mask = pa.array(kept)
        columns = {name: texts.filter(mask) for name, texts in self.columns.items()}
        return dataclasses.replace(self, columns=columns, places=self.places[kept])

    def is_missing(self, column: str) -> NDArray[np.bool_]:
        """Tell for each row whether a column holds no value."""
        found: NDArray[np.bool_] = pc.is_in(
            self.trimmed(column), value_set=pa.array(sorted(self.missing), pa.string())
        ).to_numpy(zero_copy_only=False)
        return found
