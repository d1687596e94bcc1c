from pathlib import Path

import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType, digest_of
from pipelines.errors import NotServable
from pipelines.packaging.snapshot import SnapshotDescription, read_snapshot, write_snapshot

DESCRIPTION = SnapshotDescription(
    model="m",
    target="y",
    positive="1",
    classes=("0", "1"),
    features=(
        Feature("n", FeatureType.INTEGER, minimum=0, observed=(0, 9)),
        Feature("x", FeatureType.NUMBER, observed=(0.5, 2.5)),
        Feature("c", FeatureType.CATEGORY, categories=("a", "é")),
    ),
    protected=("c",),
)
FRAME = pd.DataFrame({"c": ["a", "é"], "y": ["0", "1"], "x": [0.5, 2.5], "n": [0, 9]}, index=[7, 3])


def test_a_snapshot_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    digest = write_snapshot(path, FRAME, DESCRIPTION)
    read = read_snapshot(path)
    assert read.description == DESCRIPTION
    assert read.digest == digest == digest_of(path.read_bytes())
    assert list(read.features.columns) == ["n", "x", "c"]
    assert read.features["n"].dtype == "int64"
    assert list(read.target) == ["0", "1"]
    assert list(read.features["c"]) == ["a", "é"]


def test_the_digest_depends_on_rows_and_description_but_not_on_the_index(tmp_path: Path) -> None:
    digest = write_snapshot(tmp_path / "a", FRAME, DESCRIPTION)
    assert write_snapshot(tmp_path / "b", FRAME.reset_index(drop=True), DESCRIPTION) == digest
    assert write_snapshot(tmp_path / "c", FRAME.iloc[::-1], DESCRIPTION) != digest
    other = SnapshotDescription(**{**DESCRIPTION.__dict__, "positive": "0"})
    assert write_snapshot(tmp_path / "d", FRAME, other) != digest


@pytest.mark.parametrize("kind", ["text", "foreign", "damaged"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.parquet"
    if kind == "text":
        path.write_text("no parquet")
    elif kind == "damaged":
        write_snapshot(path, FRAME, DESCRIPTION)
        # What a compressed part begins with.
        path.write_bytes(path.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"zero"))
    else:
        FRAME.to_parquet(path)
    with pytest.raises(NotServable, match=r"s\.parquet is not a snapshot"):
        read_snapshot(path)
