"""Reads the source that model.yaml names, and sees that it has the columns that model.yaml gives a role."""

import hashlib
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.training.model_file import ModelFile, Source
from pipelines.training.reading.csv_file import read_csv
from pipelines.training.reading.parquet_file import read_parquet
from pipelines.training.reading.table import Table

# How zip files, of which newer spreadsheets are made, gzip files and older spreadsheets begin.
_PACKED = (b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")


def read_source(source: Source, root: Path) -> Table:
    """Read a source; raise UsageError where it is absent, another than declared, or can't be read."""
    path = root / source.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error}",
            next=f'restore it, correct source.path, or run "dvc pull {source.path}.dvc" where DVC keeps it',
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if source.sha256 and found != source.sha256:
        raise UsageError(
            f"{source.path} was changed: expected sha256 {source.sha256}, got {found}",
            next="restore the file, or take sha256 out of source in model.yaml: DVC records what the file was",
        )
    if content.startswith(_PACKED):
        raise UsageError(
            f"{source.path} is a spreadsheet or an archive, and no CSV or Parquet file",
            next="save its table as CSV in UTF-8, or unpack it",
        )
    return read_parquet(content, source) if is_parquet(source) else read_csv(content, source)


def is_parquet(source: Source) -> bool:
    """Tell whether a source is a Parquet file, by what is declared or else by its name."""
    return source.path.lower().endswith((".parquet", ".pq")) if source.format is None else source.format == "parquet"


def usable_rows(model: ModelFile, table: Table) -> Table:
    """Return the rows that a model can be made of: all, or those with a target where model.yaml drops the others.

    Raises UsageError unless every column has a role in model.yaml, and every role a column.
    """
    missing = [name for name in (*model.columns, *model.ignore) if name not in table.columns]
    known = {*model.columns, *model.ignore}
    strangers = [name for name in table.columns if name not in known]
    if missing or strangers:
        raise UsageError(
            f"{table.name} lacks columns {missing} and has columns {strangers} without a role"
            f" (it was read with {table.told})",
            next="give every column a role in model.yaml: target, id_columns, features or ignore",
        )
    return table.among(~table.is_missing(model.target)) if model.unlabelled == "drop" else table
