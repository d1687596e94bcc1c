from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.domain.bundle import FeatureType
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import read_snapshot
from pipelines.training.model_file import ModelFile
from pipelines.training.prepare import describe, prepare
from pipelines.training.reading.columns import typed_frame
from pipelines.training.reading.source import read_source
from pipelines.training.workspace import Workspace, run_stage
from tests.support.world import trained

ROOT = Path(__file__).parents[3]
HASH = "0" * 64


def refusal(root: Path, frame: pd.DataFrame | None = None, **changes: Any) -> str:
    """Return what prepare says of rows and a description that it refuses."""
    with pytest.raises(UsageError) as refused:
        prepare(trained.workspace(root, frame, **changes))
    return refused.value.message


def test_the_hold_out_is_about_a_fifth_of_the_projects_data(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").symlink_to(ROOT / "model.yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(ROOT / "data/raw")
    made = Workspace(tmp_path)
    prepare(made)
    train, evaluation = read_snapshot(made.train), read_snapshot(made.evaluation)
    assert (len(train.frame), len(evaluation.frame)) == (5632, 1411)
    assert (evaluation.target == "Yes").mean() == pytest.approx((train.target == "Yes").mean(), abs=0.02)


def test_blanks_mean_what_model_yaml_says() -> None:
    model = ModelFile.load(ROOT / "model.yaml")
    table = read_source(model.source, ROOT)
    blank = table.is_missing("TotalCharges")
    assert blank.sum() == 11
    assert (typed_frame(model, table)["TotalCharges"][blank] == 0.0).all()


def test_the_description_holds_declared_bounds_and_observed_values(tmp_path: Path) -> None:
    made = trained.workspace(tmp_path)
    model = ModelFile.load(made.model_file)
    frame = typed_frame(model, read_source(model.source, tmp_path))
    height, age, potted, soil = describe(model, frame).features
    assert (height.minimum, height.observed) == (None, (frame["height"].min(), frame["height"].max()))
    assert (age.type, age.minimum, age.maximum, age.observed) == (FeatureType.INTEGER, 1, 20, (1, 8))
    assert type(age.minimum) is int
    assert potted.written().as_json()["maximum"] == 1
    assert soil.categories == ("clay", "loam", "sand")


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = trained.workspace(tmp_path / "a"), trained.workspace(tmp_path / "b")
    prepare(first)
    prepare(second)
    for one, other in ((first.train, second.train), (first.evaluation, second.evaluation)):
        assert one.read_bytes() == other.read_bytes()


def test_changed_raw_data_stops_the_pipeline_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trained.workspace(tmp_path, source={"path": "raw/plants.csv", "sha256": HASH})
    assert run_stage(prepare, ["--root", str(tmp_path)]) == 2
    assert f"was changed: expected sha256 {HASH}, got " in capsys.readouterr().err
    assert not made.train.exists()


def test_every_value_without_a_meaning_is_named_in_one_run(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[4, "age"] = " "
    frame.loc[0, "age"] = "21"
    frame.loc[[5, 7], "height"] = ["tall", "1e39"]
    frame.loc[3, "potted"] = "0.5"
    frame.loc[9, "soil"] = ""
    told = refusal(tmp_path, frame)
    for line in (
        "6 things are wrong",
        "column height: 'tall' in line 7 is not a number",
        "column height: '1e39' in line 9 is more than float32 holds",
        "column age: ' ' in line 6 is missing",
        "column age: '21' in line 2 is above the declared maximum 20",
        "column potted: '0.5' in line 5 is not a whole number",
        "column soil: '' in line 11 is missing",
    ):
        assert line in told, told


def test_the_first_of_many_values_are_named_and_all_are_counted(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[10:49, "age"] = "-1"
    told = refusal(tmp_path, frame)
    assert told.count("'-1' in line ") == 5
    assert "in line 16 is below the declared minimum 1 (40 such values)" in told


def test_whole_numbers_may_be_written_with_a_fraction_of_nothing(tmp_path: Path) -> None:
    frame = trained.plants()
    frame["age"] += ".0"
    made = trained.workspace(tmp_path, frame)
    prepare(made)
    assert read_snapshot(made.train).frame["age"].dtype == "int64"


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (10**19, "is beyond 2^53"),
        (2**53, "is beyond 2^53"),
        (2**24, "is the same to the model"),
        (20250103, "is the same to the model"),
    ],
)
def test_whole_numbers_that_the_models_input_does_not_hold_are_refused(tmp_path: Path, first: int, why: str) -> None:
    frame = trained.plants()
    frame["height"] = [str(first + row) for row in range(len(frame))]
    features = {**trained.describe("")["features"], "height": {"type": "integer"}}
    assert f"column height: '{first}' in line 2" in (told := refusal(tmp_path, frame, features=features))
    assert why in told


def test_a_number_that_float32_merges_with_another_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = trained.plants()
    frame.loc[:2, "height"] = ["33554432", "33554433", "33554440"]
    prepare(trained.workspace(tmp_path, frame))
    assert "column height: 2 whole numbers are the same as another one to the model" in capsys.readouterr().err


def test_a_label_with_one_row_is_refused_by_name_with_its_line(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[8, "outcome"] = "lost"
    told = refusal(tmp_path, frame)
    assert "target outcome: label 'lost' has one row (line 10), and needs enough for every part" in told


def test_a_target_of_one_class_is_refused_by_name(tmp_path: Path) -> None:
    told = refusal(tmp_path, trained.plants().assign(outcome="flowers"))
    assert "target outcome holds one label, 'flowers': a classifier needs rows of two or more" in told


def test_labels_that_would_become_one_are_refused_by_their_line(tmp_path: Path) -> None:
    frame = trained.plants().replace({"outcome": {"flowers": f"{2**53}", "green": f"{2**53 + 1}"}})
    told = refusal(tmp_path, frame, positive=None, task="multiclass", labels="integer")
    assert f"column outcome: '{frame['outcome'][0]}' in line 2" in told
    assert "is no label of type integer, which is below 2^53 (400 such values)" in told


def test_two_labels_are_a_binary_task(tmp_path: Path) -> None:
    told = refusal(tmp_path, trained.plants(), positive=None, task="multiclass")
    assert "holds two labels, 'flowers' and 'green', and task: multiclass needs more" in told


def test_rows_without_label_or_id_are_refused(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[3, "outcome"] = " "
    frame.loc[4, "tag"] = ""
    told = refusal(tmp_path, frame)
    assert "column outcome: ' ' in line 5 is missing" in told
    assert "column tag: '' in line 6 is missing, where a row's id is needed" in told


def test_a_column_may_be_ignored(tmp_path: Path) -> None:
    made = trained.workspace(tmp_path, trained.plants().assign(notes="none, really"), ignore=["notes"])
    prepare(made)
    assert list(read_snapshot(made.train).frame) == ["height", "age", "potted", "soil", "outcome"]


def test_a_column_without_a_role_and_a_role_without_a_column_are_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, trained.plants().rename(columns={"tag": "label"}))
    assert "lacks columns ['tag'] and has columns ['label'] without a role" in told
    assert "lacks columns ['colour']" in refusal(tmp_path, ignore=["colour"])


@pytest.mark.parametrize(
    "values",
    [
        [f"n{row}" for row in range(trained.ROWS)],
        [f"n{row % 210}" for row in range(trained.ROWS)],
        pd.date_range("2025-01-01", periods=trained.ROWS).strftime("%Y-%m-%d"),
    ],
)
def test_an_id_a_date_or_free_text_is_no_category(tmp_path: Path, values: list[str]) -> None:
    features = {**trained.describe("")["features"], "it": {"type": "category"}}
    told = refusal(tmp_path, trained.plants().assign(it=values), features=features)
    assert f"column it: {len(set(values))} different texts in 400 rows are no categories: put it under id" in told


def test_a_number_that_counts_the_rows_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = {**trained.describe("")["features"], "tag": {"type": "integer"}}
    prepare(trained.workspace(tmp_path, features=features, id_columns=[]))
    said = capsys.readouterr().err
    assert "column tag: a whole number of its own in each row, without a gap: is it an id?" in said
    assert "column age" not in said


def test_a_category_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    soil = {"soil": {"type": "category", "categories": ["clay", "loam"]}}
    assert "'sand' in line" in refusal(tmp_path, features={**trained.describe("")["features"], **soil})


def test_a_positive_label_that_no_row_has_is_refused(tmp_path: Path) -> None:
    assert "never the positive label 'maybe'" in refusal(tmp_path, positive="maybe")
