"""Which rows of a set a version was trained on, told by hashes alone."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.errors import NotServable
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot, write_snapshot
from pipelines.packaging.training_rows import TrainingRows, hashes_of_texts, hashes_of_values

FEATURES = (
    Feature("age", FeatureType.INTEGER),
    Feature("soil", FeatureType.CATEGORY, categories=("clay", "loam", "sand"), nullable=True),
    Feature("height", FeatureType.NUMBER, nullable=True),
)
DESCRIPTION = SnapshotDescription("m", "y", "1", ("0", "1"), FEATURES, (), identity=("id",))


def snapshot(ids: list[str] | None, **changes: Any) -> Snapshot:
    """Return rows known by their ids, or without any, whose values differ from row to row."""
    count = len(ids) if ids is not None else 4
    columns: dict[str, Any] = {
        "age": range(count),
        "soil": (["clay", None, "sand", "loam"] * count)[:count],
        "height": [None, *(0.5 * number for number in range(1, count))],
        "y": (["0", "1"] * count)[:count],
    }
    frame = pd.DataFrame(columns | changes)
    known = None if ids is None else hashes_of_texts(([each] for each in ids), count)
    return Snapshot(frame, DESCRIPTION if ids is not None else replace(DESCRIPTION, identity=()), "sha256:e", known)


def test_rows_are_found_again_by_their_ids_whatever_their_values_have_become(tmp_path: Path) -> None:
    trained_on = TrainingRows.of(snapshot(["a", "b", "c"]))
    digest = trained_on.write(tmp_path / "rows")
    assert trained_on.write(tmp_path / "again") == digest
    read = TrainingRows.read(tmp_path / "rows")
    found = read.among(snapshot(["c", "x", "a", "y"], height=[7.0, 7.0, 7.0, 7.0]))
    assert found is not None
    assert found.tolist() == [True, False, True, False]
    assert (len(read), read.identity, read.missing) == (3, ("id",), {"age": 0, "soil": 1, "height": 1})


def test_the_order_of_the_file_tells_nothing_of_that_of_the_rows(tmp_path: Path) -> None:
    first = TrainingRows.of(snapshot(["a", "b", "c"])).write(tmp_path / "first")
    turned = snapshot(["a", "b", "c"])
    other = replace(turned, frame=turned.frame.iloc[::-1], identities=turned.identities[::-1])  # type: ignore[index]
    assert TrainingRows.of(other).write(tmp_path / "other") == first


@pytest.mark.parametrize("by", ["no-ids", "other-ids"])
def test_without_the_same_ids_rows_of_equal_values_are_one(by: str) -> None:
    trained_on = TrainingRows.of(snapshot(None if by == "no-ids" else ["a", "b", "c", "d"]))
    judged = snapshot(["a", "b", "c", "d"], age=[0, 9, 2, 3])
    other = replace(judged, description=replace(judged.description, identity=("other",)))
    found = trained_on.among(other)
    assert found is not None
    assert found.tolist() == [True, False, True, True]


def test_a_column_that_was_added_since_hides_no_row_and_one_that_is_gone_leaves_it_unknown() -> None:
    trained_on = TrainingRows.of(snapshot(None))
    wider = snapshot(None).frame.assign(width=1.5)
    more = replace(DESCRIPTION, features=(*FEATURES, Feature("width", FeatureType.NUMBER)), identity=())
    found = trained_on.among(Snapshot(wider, more, "sha256:e"))
    assert found is not None
    assert found.all()
    fewer = replace(DESCRIPTION, features=FEATURES[:2], identity=())
    assert trained_on.among(Snapshot(snapshot(None).frame, fewer, "sha256:e")) is None


@pytest.mark.parametrize(
    ("kind", "same"), [(FeatureType.NUMBER, True), (FeatureType.BOOLEAN, False), (FeatureType.TEXT, False)]
)
def test_a_whole_number_is_the_same_value_as_a_number_and_as_nothing_else(kind: FeatureType, same: bool) -> None:
    trained_on = TrainingRows.of(snapshot(None))
    other = replace(DESCRIPTION, features=(replace(FEATURES[0], type=kind), *FEATURES[1:]), identity=())
    assert (trained_on.among(Snapshot(snapshot(None).frame, other, "sha256:e")) is not None) is same


def test_values_that_a_model_takes_as_one_have_one_hash_and_others_have_not() -> None:
    at = Feature("at", FeatureType.DATETIME)
    times = pd.DataFrame({"at": [datetime(2025, 1, 1, tzinfo=UTC), "2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z"]})
    one, same, other = hashes_of_values(times, [at])
    assert (one == same, one == other) == (True, False)
    numbers = pd.DataFrame({"height": [0.0, -0.0, None, np.nan, 1.0]})
    zero, minus, missing, nan, one = hashes_of_values(numbers, [FEATURES[2]])
    assert (zero == minus, missing == nan, len({zero, missing, one})) == (True, True, 3)
    texts = pd.DataFrame({"a": ["x", "xy", ""], "b": ["yz", "z", "xyz"]})
    kinds = [Feature(name, FeatureType.TEXT, maximum_length=9) for name in texts]
    assert len(set(hashes_of_values(texts, kinds))) == 3


def test_numbers_that_a_notebook_has_rounded_to_float32_are_those_of_the_file() -> None:
    columns = {"age": [16_777_217, 3, 4, 5], "height": [0.1, 1 / 3, 2.5, None]}
    trained_on = TrainingRows.of(snapshot(None, **{name: np.float32(values) for name, values in columns.items()}))
    found = trained_on.among(snapshot(None, **columns))
    assert found is not None
    assert found.all()
    other = trained_on.among(snapshot(None, **columns | {"height": [0.100001, 1 / 3, 2.5, 1.0]}))
    assert other is not None
    assert other.tolist() == [False, True, True, False]
    # More than a second of float32 lies between two times of today.
    at = Feature("at", FeatureType.DATETIME)
    assert len(set(hashes_of_values(pd.DataFrame({"at": ["2025-01-01T00:00:00", "2025-01-01T00:00:01"]}), [at]))) == 2


def test_hashes_of_values_do_not_depend_on_where_a_row_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = snapshot([str(number) for number in range(50)]).frame
    whole = hashes_of_values(frame, FEATURES)
    monkeypatch.setattr("pipelines.packaging.training_rows._CHUNK", 7)
    assert (hashes_of_values(frame, reversed(FEATURES)) == whole).all()


def test_a_snapshot_keeps_the_identity_of_its_rows(tmp_path: Path) -> None:
    written = snapshot(["a", "b"])
    write_snapshot(tmp_path / "s", written.frame, written.description, written.identities)
    read = read_snapshot(tmp_path / "s")
    assert (read.identities == written.identities).all()
    assert (read.description.identity, list(read.frame)) == (("id",), ["age", "soil", "height", "y"])


@pytest.mark.parametrize(
    "fault", ["no parquet", "another", "no rows", "other columns", "signed", "missing", "no values"]
)
def test_a_file_that_says_something_else_is_refused_by_name(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "rows"
    TrainingRows.of(snapshot(["a", "b"])).write(path)
    table = pq.read_table(path)
    meta = table.schema.metadata
    (key,) = meta
    nameless = {key: json.dumps(json.loads(meta[key]) | {"values": {}}).encode()}
    changed = {
        "another": table.replace_schema_metadata({}),
        "no rows": table.slice(0, 0),
        "no values": table.replace_schema_metadata(nameless),
        "other columns": table.drop_columns(["identity"]),
        "signed": table.cast(pa.schema([("identity", pa.int64()), ("values", pa.uint64())], meta), safe=False),
        "missing": pa.table([[1, None]] * 2, schema=table.schema),
    }
    path.write_bytes(b"text")
    if fault in changed:
        pq.write_table(changed[fault], path)
    with pytest.raises(NotServable, match="rows does not say which rows a version was trained on"):
        TrainingRows.read(path)
