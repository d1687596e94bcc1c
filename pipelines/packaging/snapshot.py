"""A frozen set of rows that describes itself, so that whoever judges by it needs no other file.

The description stands in the Parquet file's key-value metadata, and the digest is that of the file's bytes.
"""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from pipelines.documents import parse_json
from pipelines.domain.bundle import Feature, FeatureType, canonical, digest_of
from pipelines.domain.description import Label, Task, WrittenFeature
from pipelines.errors import NotServable

# The column of a file that holds the hash of each row's identity; no feature is called so.
IDENTITY_COLUMN = "slipway.identity"
_KEY = b"slipway.description"
_SAMPLED_KEY = b"slipway.sampled_from"
_ARROW = {
    FeatureType.INTEGER: pa.int64(),
    FeatureType.NUMBER: pa.float64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.CATEGORY: pa.string(),
    FeatureType.TEXT: pa.string(),
    FeatureType.DATE: pa.date32(),
    FeatureType.DATETIME: pa.timestamp("us", tz="UTC"),
}


class _Described(BaseModel):
    """The form that stands in a snapshot's metadata."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    # A snapshot that says nothing of it is older than other tasks.
    task: Task = Task.BINARY
    target: str
    positive: Label | None
    classes: tuple[Label, ...]
    features: tuple[WrittenFeature, ...]
    protected: tuple[str, ...]
    # One that says nothing of it is older than it, or its rows have none.
    identity: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [self.target, *(feature.name for feature in self.features), IDENTITY_COLUMN]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns with two roles: {', '.join(map(repr, twice))}")
        if self.task is Task.BINARY and self.positive not in self.classes:
            raise ValueError(f"the positive class {self.positive!r} is none of {list(self.classes)}")
        return self


@dataclass(frozen=True)
class SnapshotDescription:
    """What the columns of a snapshot mean.

    `classes` are the target's values, sorted by their texts; none of a regression. `positive` is None unless the task
    is BINARY. `identity` names the columns of the source that say which row it is, none where nothing does.
    """

    model: str
    target: str
    positive: Label | None
    classes: tuple[Label, ...]
    features: tuple[Feature, ...]
    protected: tuple[str, ...]
    task: Task = Task.BINARY
    identity: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the form that stands in the file's metadata."""
        written = tuple(feature.written() for feature in self.features)
        return _Described(**{**vars(self), "features": written}).model_dump(mode="json")

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "SnapshotDescription":
        """Rebuild what `as_dict` wrote."""
        read = _Described.model_validate(body)
        return cls(**{**dict(read), "features": tuple(Feature.read(feature) for feature in read.features)})

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order, without the target."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True)
class Snapshot:
    """Rows of features and target, their description, and `sha256:<hex>` of the file they came from.

    `identities` are the hashes of the rows' identity (n,), None where they have none. `sampled_from` is how many rows
    these are a sample of, None where they are all.
    """

    frame: pd.DataFrame
    description: SnapshotDescription
    digest: str
    identities: NDArray[np.uint64] | None = None
    sampled_from: int | None = None

    @property
    def features(self) -> pd.DataFrame:
        """The feature columns, in the description's order."""
        return self.frame[list(self.description.columns)]

    @property
    def target(self) -> pd.Series:
        """The true labels as texts, or the true values of a regression as float64."""
        return self.frame[self.description.target]


def write_snapshot(
    path: Path,
    frame: pd.DataFrame,
    description: SnapshotDescription,
    identities: NDArray[np.uint64] | None = None,
    sampled_from: int | None = None,
) -> str:
    """Write features and target of `frame` to `path`; return the digest. Same rows, same bytes.

    `identities` are the hashes of the description's identity in each row, (n,); without them none is written.
    `sampled_from` says how many rows these are a sample of.
    """
    types = [(feature.name, _ARROW[feature.type]) for feature in description.features]
    target = pa.float64() if description.task is Task.REGRESSION else pa.string()
    schema = pa.schema([*types, (description.target, target)])
    table = pa.table([_array(frame[field.name], field.type) for field in schema], schema=schema)
    if identities is None:
        description = replace(description, identity=())
    else:
        table = table.append_column(IDENTITY_COLUMN, pa.array(identities, type=pa.uint64()))
    metadata = {_KEY: canonical(description.as_dict())}
    if sampled_from is not None:
        metadata[_SAMPLED_KEY] = str(sampled_from).encode()
    return write_table(path, table.replace_schema_metadata(metadata))


def _array(column: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        # Its values without their zone, which is UTC.
        return pa.array(column.dt.tz_convert(None).to_numpy(), type=kind, from_pandas=True)
    return pa.array(column, type=kind, from_pandas=True)


def write_table(path: Path, table: pa.Table) -> str:
    """Write `table` to `path` so that nobody ever reads a half-written file; return its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = table_bytes(table)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return digest_of(content)


def table_bytes(table: pa.Table) -> bytes:
    """Return `table` as a Parquet file; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_snapshot(path: Path) -> Snapshot:
    """Read rows, description and digest from the same bytes; raise NotServable for any other file."""
    content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content))
        metadata = table.schema.metadata or {}
        body = parse_json(metadata[_KEY])
        description = SnapshotDescription.from_dict(body)
        sampled_from = int(metadata[_SAMPLED_KEY]) if _SAMPLED_KEY in metadata else None
        frame = table.select([*description.columns, description.target]).to_pandas()
        identities = _identities(table) if description.identity else None
    except MemoryError:
        # Arrow's own is one of its exceptions as well; whoever bounds the memory says what is wrong.
        raise
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise NotServable(
            f"{path.name} is not a snapshot: {error!r}",
            next="log the evaluation.parquet that python -m pipelines.training.prepare writes",
        ) from error
    return Snapshot(frame, description, digest_of(content), identities, sampled_from)


def _identities(table: pa.Table) -> NDArray[np.uint64]:
    column = table.column(IDENTITY_COLUMN)
    if column.type != pa.uint64() or column.null_count:
        raise ValueError(f"the column {IDENTITY_COLUMN} holds {column.type}, or not one for each row")
    hashes: NDArray[np.uint64] = column.to_numpy()
    return hashes
