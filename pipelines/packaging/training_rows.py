"""Which rows a version was trained on, as hashes: what it takes to leave them out of a measurement without the data.

A row is known by its identity, the columns that say which row it is, or by the values that the model takes of it. A
hash is 64 bits, so of a million rows against a million hardly any is mistaken for another. Who knows a row can tell by
its hash whether it was among them; who does not learns nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipelines.documents import parse_json
from pipelines.domain.bundle import Feature, FeatureType, canonical
from pipelines.errors import NotServable
from pipelines.packaging.served import model_values
from pipelines.packaging.snapshot import Snapshot, write_table

_KEY = b"slipway.training_rows"
_IDENTITY, _VALUES = "identity", "values"
# So many rows are objects of Python at once.
_CHUNK = 65_536
# Types whose values are the same to a model.
_KIN = {FeatureType.INTEGER: FeatureType.NUMBER, FeatureType.TEXT: FeatureType.CATEGORY}
_NUMBERS = (FeatureType.INTEGER, FeatureType.NUMBER)

Hashes = NDArray[np.uint64]


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    identity: tuple[str, ...]
    values: dict[str, FeatureType]
    missing: dict[str, int]


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a training, each by its hashes in one place of both arrays (n,).

    `identity` names the columns that `identities` are of, none where the rows have no identity, and then there are no
    such hashes. `values` are the features that `contents` are of, with their types; `missing` counts the rows in which
    one is missing.
    """

    identity: tuple[str, ...]
    values: dict[str, FeatureType]
    missing: dict[str, int]
    identities: Hashes | None
    contents: Hashes

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the hashes of the rows of a snapshot."""
        features = snapshot.description.features
        missing = {each.name: int(snapshot.frame[each.name].isna().sum()) for each in features}
        return cls(
            identity=snapshot.description.identity if snapshot.identities is not None else (),
            values={each.name: each.type for each in features},
            missing=missing,
            identities=snapshot.identities,
            contents=hashes_of_values(snapshot.frame, features),
        )

    def __len__(self) -> int:
        return len(self.contents)

    def write(self, path: Path) -> str:
        """Write them to `path`, in the order of their hashes; return the file's digest."""
        order = np.lexsort((self.contents,) if self.identities is None else (self.contents, self.identities))
        columns = (
            {_VALUES: self.contents}
            if self.identities is None
            else {_IDENTITY: self.identities, _VALUES: self.contents}
        )
        described = _Described(identity=self.identity, values=self.values, missing=self.missing)
        table = pa.table({name: pa.array(hashes[order]) for name, hashes in columns.items()})
        return write_table(path, table.replace_schema_metadata({_KEY: canonical(described.model_dump(mode="json"))}))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote; raise NotServable for any other file."""
        try:
            table = pq.read_table(path)
            described = _Described.model_validate(parse_json((table.schema.metadata or {})[_KEY]))
            wanted = [_IDENTITY, _VALUES] if described.identity else [_VALUES]
            if table.column_names != wanted or any(kind != pa.uint64() for kind in table.schema.types):
                raise ValueError(f"its columns are {table.column_names} of {table.schema.types}")
            if not len(table) or any(column.null_count for column in table.columns):
                raise ValueError("it names no row, or not all of them")
            if not described.values or described.values.keys() != described.missing.keys():
                raise ValueError("it names no columns, or counts what is missing in others")
        except MemoryError:
            raise
        except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
            raise NotServable(
                f"{path.name} does not say which rows a version was trained on: {str(error)[:300]}",
                next="log slipway/training-rows.parquet as registration writes it, or none",
            ) from error
        found = {name: table.column(name).to_numpy() for name in wanted}
        return cls(described.identity, described.values, described.missing, found.get(_IDENTITY), found[_VALUES])

    def among(self, snapshot: Snapshot) -> NDArray[np.bool_] | None:
        """Tell of each row of a snapshot whether it is one of these, (n,); None where that can't be told.

        Rows are matched by their identity where both sides have the same one. Else they are by the values of these
        rows' features: rows of equal values are then taken for one.
        """
        if self.identities is not None and self.identity == snapshot.description.identity:
            assert snapshot.identities is not None
            return np.isin(snapshot.identities, self.identities)
        held = {each.name: each for each in snapshot.description.features}
        if any(name not in held or _kind(held[name].type) is not _kind(kind) for name, kind in self.values.items()):
            return None
        features = [held[name] for name in self.values]
        return np.isin(hashes_of_values(snapshot.frame, features), self.contents)


def hashes_of_texts(keys: Iterable[Iterable[str]], rows: int) -> Hashes:
    """Return the first 64 bits of the SHA-256 of each of `rows` keys, written as a JSON list of texts, (rows,)."""
    return np.fromiter((_hash(json.dumps([*key]).encode()) for key in keys), dtype=np.uint64, count=rows)


def hashes_of_values(frame: pd.DataFrame, features: Iterable[Feature]) -> Hashes:
    """Return a hash of the values that a model takes of each row, in the order of the features' names, (n,).

    Raises ValueError for a value that is not of its feature's type.
    """
    ordered = sorted(features, key=lambda each: each.name)
    found = np.empty(len(frame), dtype=np.uint64)
    for start in range(0, len(frame), _CHUNK):
        part = frame.iloc[start : start + _CHUNK]
        codes = np.column_stack([_codes(_taken(part[each.name], each)) for each in ordered])
        found[start : start + len(part)] = [_hash(row) for row in _rows(codes)]
    return found


def _taken(column: "pd.Series[Any]", feature: Feature) -> NDArray[Any]:
    """Return a column as a model takes it, numbers as float32: a notebook may have rounded them so, a file has not."""
    values = model_values(column, feature)
    if feature.type not in _NUMBERS:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def _codes(values: NDArray[Any]) -> Hashes:
    """Return 64 bits for each value: those of a number, in which all that is missing is one, or a text's hash."""
    if values.dtype != object:
        # Adding 0 makes one zero of two.
        known = np.where(np.isnan(values), np.nan, values + 0.0)
        return known.astype("<f8").view("<u8")
    places, texts = pd.factorize(values)
    return np.array([_hash(str(text).encode()) for text in texts], dtype=np.uint64)[places]


def _rows(codes: Hashes) -> Iterator[bytes]:
    width, content = 8 * codes.shape[1], codes.astype("<u8").tobytes()
    return (content[at : at + width] for at in range(0, len(content), width))


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def _kind(kind: FeatureType) -> FeatureType:
    return _KIN.get(kind, kind)
