"""Reads a CSV file strictly: a row has as many fields as the header, or it is refused by its line.

Python's own reader is used, as RFC 4180 has it, since it alone says where a row begins and refuses what
is quoted wrongly; libraries for tables fill short rows up, and shift long ones.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.errors import UsageError
from pipelines.training.model_file import Source
from pipelines.training.reading.encoding import decoded, line_at
from pipelines.training.reading.refusals import Refusals, quoted
from pipelines.training.reading.table import Table

if TYPE_CHECKING:
    import _csv

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_CHARS = 1 << 16
_SAMPLE_ROWS = 100
_CORRECT = "correct these lines of the file, or how it is written under source in model.yaml"


@dataclass(frozen=True)
class Dialect:
    """How the fields of a file are told apart."""

    separator: str
    quote: str

    def rows(self, text: str, *, strict: bool) -> "_csv.Reader":
        """Return the reader of a text's rows."""
        lines = io.StringIO(text, newline="")
        return csv.reader(lines, delimiter=self.separator, quotechar=self.quote, strict=strict)


def read_csv(content: bytes, source: Source) -> Table:
    """Read the bytes of a CSV file by what is declared, and by what they show where nothing is.

    Raises UsageError that names every line that is no row of the header's, or where the file is none at all.
    """
    text, encoding = decoded(content, source.encoding, source.path)
    if not text.strip():
        raise UsageError(f"{source.path} holds no header: it is empty", next="restore it, or correct source.path")
    dialect = guessed(text, source)
    header, rows, lines = _rows(text, dialect, source.path)
    columns = zip(*rows, strict=True)
    return Table(
        name=source.path,
        columns={name: pa.array(values, pa.string()) for name, values in zip(header, columns, strict=True)},
        places=np.array(lines, dtype=np.int64),
        unit="line",
        missing=frozenset({"", *source.missing}),
        written={"encoding": encoding, "separator": dialect.separator, "quote": dialect.quote},
    )


def guessed(text: str, source: Source) -> Dialect:
    """Return what is declared; beside it, what splits the first rows into fields most evenly."""
    sample = text[:_SAMPLE_CHARS]
    quote = source.quote or ("'" if sample.startswith("'") else '"')

    def evenness(separator: str) -> tuple[bool, int, int]:
        rows = [row for row in _first_rows(Dialect(separator, quote), sample) if row]
        width = len(rows[0]) if rows else 0
        return width > 1, sum(len(row) == width for row in rows), width

    return Dialect(source.separator or max(SEPARATORS, key=evenness), quote)


def _first_rows(dialect: Dialect, sample: str) -> list[list[str]]:
    reader = dialect.rows(sample, strict=False)
    return [row for row, _ in zip(reader, range(_SAMPLE_ROWS), strict=False)]


def _rows(text: str, dialect: Dialect, name: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, the rows, and the line in which each row begins; blank lines are none."""
    wrong = Refusals(name)
    _refuse_nul(text, wrong)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: list[str] = []
    again: list[str] = []
    begins = 1
    reader = dialect.rows(text, strict=True)
    try:
        for row in reader:
            line, begins = begins, reader.line_num + 1
            if not row:
                continue
            if not header:
                header = row
                _check_header(header, line, wrong)
            elif len(row) != len(header):
                ragged.append(f"line {line} has {len(row)}")
            elif row == header:
                again.append(f"line {line}")
            else:
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        wrong.add(f"the row that begins in line {begins} is not quoted as CSV is: {error} (a quote left open?)")
    wrong.add_each(f"rows with other than the {len(header)} fields of the header:", ragged)
    wrong.add_each("the header stands again in", again)
    wrong.end(next=_CORRECT)
    if not rows:
        raise UsageError(f"{name} holds a header and no rows", next="restore it, or correct source.path")
    return header, rows, lines


def _check_header(header: Sequence[str], line: int, wrong: Refusals) -> None:
    unnamed = [str(position) for position, name in enumerate(header, start=1) if not name.strip()]
    if unnamed:
        wrong.add(f"the header in line {line} has no name for field {', '.join(unnamed)} of {len(header)}")
    twice = [quoted(name) for name, times in Counter(header).items() if times > 1 and name.strip()]
    if twice:
        wrong.add(f"the header in line {line} names {', '.join(twice)} more than once")


def _refuse_nul(text: str, wrong: Refusals) -> None:
    position = text.find("\0")
    if position < 0:
        return
    wrong.add(
        f"line {line_at(text, position)} holds a NUL byte ({text.count(chr(0)):,} in all): the file is damaged,"
        ' or UTF-16 without its mark, for which declare "encoding: utf-16-le"'
    )
    wrong.end(next=_CORRECT)
