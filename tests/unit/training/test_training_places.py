"""Rows have a place for good: more data moves none of them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.errors import UsageError
from pipelines.packaging.snapshot import read_snapshot
from pipelines.training.places import drawn
from pipelines.training.prepare import prepare
from pipelines.training.workspace import Workspace
from tests.support.world import trained

BY_TIME = {"by": "time", "column": "seen", "evaluation_from": "2025-03-01", "reference": 0.5, "seed": 3}


def heights(root: Path, frame: pd.DataFrame, **changes: Any) -> dict[str, set[float]]:
    """Prepare a frame and return which rows each part holds; a height names its row."""
    made = trained.workspace(root, frame, **changes)
    prepare(made)
    return {name: set(read_snapshot(path).frame["height"]) for name, path in files(made).items()}


def files(made: Workspace) -> dict[str, Path]:
    return {"train": made.train, "evaluation": made.evaluation, "reference": made.reference}


def numbered(rows: int = 400) -> pd.DataFrame:
    """Return plants of which each has a height of its own."""
    return trained.plants(rows).assign(height=[f"{row}.5" for row in range(rows)])


def seen(frame: pd.DataFrame) -> pd.DataFrame:
    """Give rows a time: the first 100 in January, and so on."""
    return frame.assign(seen=[f"2025-0{1 + row // 100}-15 08:00" for row in range(len(frame))])


CONTENT = {"id_columns": [], "ignore": ["tag"]}


@pytest.mark.parametrize("changes", [{}, CONTENT], ids=["id", "content"])
def test_more_rows_in_another_order_move_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    before = heights(tmp_path / "a", numbered(400), **changes)
    grown = pd.concat([numbered(400), numbered(500)[400:]]).sample(frac=1.0, random_state=1)
    after = heights(tmp_path / "b", grown, **changes)
    known = before["train"] | before["evaluation"]
    assert {name: rows & known for name, rows in after.items()} == before
    assert len(after["train"] | after["evaluation"]) == 500


@pytest.mark.parametrize("changes", [{}, CONTENT, {"split": BY_TIME}], ids=["id", "content", "time"])
def test_parts_are_disjoint_and_complete_and_reference_trains(tmp_path: Path, changes: dict[str, Any]) -> None:
    frame = seen(numbered())
    parts = heights(
        tmp_path, frame, **{**changes, "ignore": [*changes.get("ignore", []), *["seen"] * ("split" not in changes)]}
    )
    assert not parts["train"] & parts["evaluation"]
    assert len(parts["train"] | parts["evaluation"]) == 400
    assert parts["reference"] < parts["train"]


def test_fractions_are_of_all_rows(tmp_path: Path) -> None:
    parts = heights(tmp_path, numbered(4000))
    assert len(parts["evaluation"]) == pytest.approx(1000, abs=100)
    assert len(parts["reference"]) == pytest.approx(2000, abs=120)


def test_another_seed_gives_other_parts(tmp_path: Path) -> None:
    split = {"evaluation": 0.25, "reference": 0.5}
    one, other = (heights(tmp_path / str(seed), numbered(), split={**split, "seed": seed}) for seed in (1, 2))
    assert one != other


def test_rows_of_one_id_stay_together(tmp_path: Path) -> None:
    frame = numbered()
    frame["tag"] = [str(row // 4) for row in range(len(frame))]
    parts = heights(tmp_path, frame)
    assert {int(row) // 4 for row in parts["train"]}.isdisjoint(int(row) // 4 for row in parts["evaluation"])


def test_equal_rows_are_in_one_part_whatever_their_label(tmp_path: Path) -> None:
    frame = numbered()
    twin = frame.assign(outcome=["green" if row % 2 else "flowers" for row in range(len(frame))], tag="x")
    parts = heights(tmp_path, pd.concat([frame, twin]), **CONTENT)
    assert not parts["train"] & parts["evaluation"]


def test_the_order_of_features_and_the_way_a_number_is_written_move_no_row(tmp_path: Path) -> None:
    features = trained.describe("")["features"]
    before = heights(tmp_path / "a", numbered(), **CONTENT)
    written = numbered().assign(age=lambda frame: frame["age"] + ".0")
    assert heights(tmp_path / "b", written, **CONTENT, features=dict(reversed(features.items()))) == before


def test_a_row_s_number_is_that_of_the_docstring() -> None:
    # The first 53 bits of sha256('[3, "a"]').
    assert drawn(3, ["a"]) == 0x13829D70061F07 / 2**53
    assert drawn(3, ["a", "b"]) != drawn(3, ["ab"])


def test_by_time_later_rows_evaluate(tmp_path: Path) -> None:
    parts = heights(tmp_path, seen(numbered()), split=BY_TIME)
    assert parts["evaluation"] == {row + 0.5 for row in range(200, 400)}
    assert len(parts["reference"]) == pytest.approx(100, abs=30)


def test_a_time_counts_in_its_zone(tmp_path: Path) -> None:
    frame = seen(numbered())
    # Just before, and just at, the first of March in UTC.
    frame.loc[[0, 1], "seen"] = ["2025-03-01T00:30:00+01:00", "2025-02-28T23:00:00-01:00"]
    parts = heights(tmp_path, frame, split=BY_TIME)
    assert 0.5 in parts["train"] and 1.5 in parts["evaluation"]


def test_what_is_no_time_is_refused_by_its_line(tmp_path: Path) -> None:
    frame = seen(numbered())
    frame.loc[4, "seen"] = "yesterday"
    with pytest.raises(UsageError, match="column seen: 'yesterday' in line 6 is no date or time"):
        prepare(trained.workspace(tmp_path, frame, split=BY_TIME))


def test_a_part_that_is_too_small_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"evaluation has 0 of 400 rows, and needs 10") as refused:
        prepare(trained.workspace(tmp_path, seen(numbered()), split={**BY_TIME, "evaluation_from": "2026-01-01"}))
    assert refused.value.next == "add rows, or give another split.evaluation_from in model.yaml"


def test_a_part_without_a_label_is_refused_by_name(tmp_path: Path) -> None:
    frame = seen(numbered())
    frame.loc[:1, "outcome"] = "lost"
    with pytest.raises(UsageError, match="evaluation has none of the 2 rows of label 'lost'"):
        prepare(trained.workspace(tmp_path, frame, split=BY_TIME))
