"""Reads a Parquet file as texts, so that what holds for a CSV file holds for it too."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as kinds

from pipelines.errors import UsageError
from pipelines.training.model_file import Source
from pipelines.training.reading.refusals import Refusals
from pipelines.training.reading.table import Table


def read_parquet(content: bytes, source: Source) -> Table:
    """Read the bytes of a Parquet file: nulls and NaN are missing, times are ISO 8601.

    Raises UsageError for another file, and for columns whose values are no texts, numbers, truths or times.
    """
    try:
        read = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{source.path} is no Parquet file: {error}",
            next='restore it, or declare "format: csv" under source in model.yaml',
        ) from error
    if not read.num_rows:
        raise UsageError(f"{source.path} holds no rows", next="restore it, or correct source.path")
    wrong = Refusals(source.path)
    twice = sorted({name for name in read.column_names if read.column_names.count(name) > 1})
    wrong.add_each("columns that stand more than once:", twice)
    columns = {}
    for name, values in zip(read.column_names, read.columns, strict=True):
        try:
            columns[name] = _texts(values)
        except pa.ArrowException:
            wrong.add(f"column {name} is of type {values.type}, which no feature takes")
    wrong.end(next="write the file without these columns")
    return Table(
        name=source.path,
        columns=columns,
        places=np.arange(1, read.num_rows + 1, dtype=np.int64),
        unit="row",
        missing=frozenset({"", *source.missing}),
        written={"format": "parquet"},
    )


def _texts(values: pa.ChunkedArray) -> pa.StringArray:
    kind = values.type.value_type if kinds.is_dictionary(values.type) else values.type
    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        raise pa.ArrowInvalid("bytes are no text")
    array = values.cast(kind).combine_chunks()
    if kinds.is_floating(kind):
        # By way of float64, so that the text is the number that is stored and not its shortest name in float32.
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), None, array)
    return pc.fill_null(array.cast(pa.string()), "")
