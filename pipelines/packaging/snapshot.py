"""A frozen set of rows that describes itself, so that whoever judges by it needs no other file.

The description stands in the Parquet file's key-value metadata, and the digest is that of the file's bytes.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, model_validator

from pipelines.documents import parse_json
from pipelines.domain.bundle import Feature, FeatureType, canonical, digest_of
from pipelines.domain.description import Label, Task, WrittenFeature
from pipelines.errors import NotServable

_KEY = b"slipway.description"
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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [self.target, *(feature.name for feature in self.features)]
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
    is BINARY.
    """

    model: str
    target: str
    positive: Label | None
    classes: tuple[Label, ...]
    features: tuple[Feature, ...]
    protected: tuple[str, ...]
    task: Task = Task.BINARY

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
    """Rows of features and target, their description, and `sha256:<hex>` of the file they came from."""

    frame: pd.DataFrame
    description: SnapshotDescription
    digest: str

    @property
    def features(self) -> pd.DataFrame:
        """The feature columns, in the description's order."""
        return self.frame[list(self.description.columns)]

    @property
    def target(self) -> pd.Series:
        """The true labels as texts, or the true values of a regression as float64."""
        return self.frame[self.description.target]


def write_snapshot(path: Path, frame: pd.DataFrame, description: SnapshotDescription) -> str:
    """Write features and target of `frame` to `path`; return the digest. Same rows, same bytes."""
    types = [(feature.name, _ARROW[feature.type]) for feature in description.features]
    target = pa.float64() if description.task is Task.REGRESSION else pa.string()
    schema = pa.schema([*types, (description.target, target)])
    table = pa.table([_array(frame[field.name], field.type) for field in schema], schema=schema)
    content = canonical(description.as_dict())
    return write_table(path, table.replace_schema_metadata({_KEY: content}))


def _array(column: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        # Its values without their zone, which is UTC.
        return pa.array(column.dt.tz_convert(None).to_numpy(), type=kind, from_pandas=True)
    return pa.array(column, type=kind, from_pandas=True)


def write_table(path: Path, table: pa.Table) -> str:
    """Write `table` to `path` so that nobody ever reads a half-written file; return its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    content = buffer.getvalue()
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return digest_of(content)


def read_snapshot(path: Path) -> Snapshot:
    """Read rows, description and digest from the same bytes; raise NotServable for any other file."""
    content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content))
        body = parse_json((table.schema.metadata or {})[_KEY])
        description = SnapshotDescription.from_dict(body)
        frame = table.select([*description.columns, description.target]).to_pandas()
    except MemoryError:
        # Arrow's own is one of its exceptions as well; whoever bounds the memory says what is wrong.
        raise
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise NotServable(
            f"{path.name} is not a snapshot: {error!r}",
            next="log the evaluation.parquet that python -m pipelines.training.prepare writes",
        ) from error
    return Snapshot(frame, description, digest_of(content))
