"""The rows that drift is measured against: few of many, the same ones of the same data, and their number said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.packaging.reference import write_reference
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot

DESCRIPTION = SnapshotDescription(
    "m", "y", "yes", ("no", "yes"), (Feature("x", FeatureType.INTEGER),), (), identity=("id",)
)


def snapshot(values: "np.ndarray", identities: "np.ndarray | None") -> Snapshot:
    return Snapshot(pd.DataFrame({"x": values}).assign(y="no"), DESCRIPTION, "sha256:x", identities)


@pytest.mark.parametrize("by", ["identity", "values"])
def test_of_many_rows_the_same_ones_are_kept_in_any_order(tmp_path: Path, by: str) -> None:
    order = np.random.default_rng(1).permutation(1000)
    found = []
    for number, values in enumerate((np.arange(1000), order)):
        identities = values.astype(np.uint64) if by == "identity" else None
        write_reference(snapshot(values, identities), tmp_path / str(number), most=100)
        found.append(read_snapshot(tmp_path / str(number)))
    assert [len(each.frame) for each in found] == [100, 100]
    assert [each.sampled_from for each in found] == [1000, 1000]
    assert set(found[0].frame["x"]) == set(found[1].frame["x"])
    # They are spread over all of them.
    assert 400 < found[0].frame["x"].mean() < 600
    assert (found[0].identities is not None) is (by == "identity")


def test_rows_that_are_equal_are_drawn_each_by_itself(tmp_path: Path) -> None:
    write_reference(snapshot(np.arange(2000) % 4 // 3, None), tmp_path / "few", most=500)
    assert read_snapshot(tmp_path / "few").frame["x"].mean() == pytest.approx(0.25, abs=0.06)


def test_few_rows_are_kept_as_they_are_with_the_digest_of_before(tmp_path: Path) -> None:
    few = snapshot(np.arange(50), None)
    digest = write_reference(few, tmp_path / "all", most=100)
    again = read_snapshot(tmp_path / "all")
    assert (len(again.frame), again.sampled_from, again.digest) == (50, None, digest)
    write_reference(few, tmp_path / "some", most=20)
    sampled = read_snapshot(tmp_path / "some")
    # A sample that is drawn of a sample says how many rows there were at first.
    write_reference(sampled, tmp_path / "fewer", most=10)
    assert read_snapshot(tmp_path / "fewer").sampled_from == 50
