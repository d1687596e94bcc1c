"""A file of data becomes a model.yaml that prepares and trains as it stands, or is refused by what is wrong with it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipelines.domain.description import Label
from pipelines.errors import UsageError
from pipelines.operator.model_init import init_model
from pipelines.packaging.snapshot import read_snapshot
from pipelines.training.places import drawn
from pipelines.training.prepare import prepare
from pipelines.training.proposal import MOST_CATEGORIES, Proposal, propose
from pipelines.training.score import score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace
from tests.support.world import trained

ROWS = trained.ROWS


def proposal(
    root: Path, frame: pd.DataFrame, *, target: str = "outcome", ids: tuple[str, ...] = (), **csv: Any
) -> Proposal:
    frame.to_csv(root / "raw.csv", index=False, **csv)
    return propose(root, "raw.csv", target=target, name="plants", ids=ids)


def role(root: Path, values: list[Any], *, ids: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return what a column of these values is taken to be, and why."""
    made = proposal(root, trained.plants().assign(it=values), ids=ids)
    return next((each.role, each.why) for each in made.roles if each.column == "it")


def every(*values: Any) -> list[Any]:
    """Repeat the values for as many rows as there are."""
    return [values[row % len(values)] for row in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "is_a", "why"),
    [
        (every(1, 2, 3), "integer", "from 1 to 3"),
        (every("1.0", "2", "3.00"), "integer", "from 1 to 3"),
        (every(0.5, 2), "number", "from 0.5 to 2"),
        (every("a", "b"), "category", "2 different texts: 'a', 'b'"),
        (every("00501", "10001"), "category", "2 different texts"),
        (every(True, False), "boolean", "true and false"),
        (every("only"), "ignore", "every row has 'only'"),
        (every(""), "ignore", "it is empty"),
        (every("a", "b", ""), "category", "'a', 'b'; 133 are missing"),
        (every(1, "NA", 3), "integer", "from 1 to 3; 133 are missing"),
        (every("2025-01-31", "2025-02-28"), "date", "dates"),
        (every("2025-01-31T10:00", "2025-02-28 11:30"), "datetime", "dates and times"),
        (every(20250102, 20250103, 20250104, 20250105), "ignore", "merges some of its whole numbers"),
        (every(10**19, 1), "ignore", "merges some of its whole numbers"),
        (every(1e39, 0.5), "ignore", "more than float32"),
        (every(*(f"n{n}" for n in range(MOST_CATEGORIES + 1))), "ignore", "101 different texts in 400 rows"),
        ([*every(1, 2, 3)[1:], "4o"], "category", "numbers all but 1, such as '4o' in line 401"),
        ([*(f"{row}.5" for row in range(ROWS - 1)), "inf"], "ignore", "numbers all but 1, such as 'inf' in line 401"),
    ],
)
def test_a_column_is_what_its_values_are(tmp_path: Path, values: list[Any], is_a: str, why: str) -> None:
    found = role(tmp_path, values)
    assert found[0] == is_a
    assert why in found[1]


def test_the_first_column_that_names_each_row_is_its_id(tmp_path: Path) -> None:
    texts = [f"name {row}" for row in range(ROWS)]
    frame = trained.plants().drop(columns="tag").assign(name=texts, mail=texts)
    assert proposal(tmp_path, frame).body["id_columns"] == ["name"]
    assert proposal(tmp_path, frame).body["ignore"] == ["mail"]
    assert proposal(tmp_path, frame, ids=("mail",)).body["id_columns"] == ["mail"]
    assert proposal(tmp_path, trained.plants()).body["id_columns"] == ["tag"]
    numbers = trained.plants().drop(columns="tag").assign(plantId=[row * 7 for row in range(ROWS)])
    assert proposal(tmp_path, numbers).body["id_columns"] == ["plantId"]


@pytest.mark.parametrize("column", ["customer_id", "customerId", "Unnamed: 0", "__index_level_0__"])
def test_ids_that_come_again_are_no_feature(tmp_path: Path, column: str) -> None:
    frame = trained.plants().drop(columns="tag").assign(**{column: [row // 2 * 7 for row in range(ROWS)]})
    made = proposal(tmp_path, frame)
    assert made.body["ignore"] == [column]
    assert "called an id, one of 200: as --id it keeps its rows together" in [each.why for each in made.roles]
    assert proposal(tmp_path, frame, ids=(column,)).body["id_columns"] == [column]
    few = proposal(tmp_path, trained.plants().assign(**{column: every(3, 5, 9)}))
    assert few.body["features"][column] == {"type": "integer"}


def test_the_index_of_a_frame_is_an_id(tmp_path: Path) -> None:
    frame = trained.plants().drop(columns="tag").set_axis([row * 3 for row in range(ROWS)])
    frame.to_parquet(tmp_path / "raw.parquet")
    body = propose(tmp_path, "raw.parquet", target="outcome", name="plants", ids=()).body
    assert body["id_columns"] == ["__index_level_0__"]


def test_a_word_for_no_value_stays_a_label(tmp_path: Path) -> None:
    frame = trained.plants().assign(outcome=every("none", "mild", "severe"), age=every(1, 2, "none", 4, 5))
    made = proposal(tmp_path, frame)
    assert made.body["task"] == "multiclass" and "missing" not in made.body["source"]
    assert any("numbers all but 80, such as 'none' in line 4" in each.why for each in made.roles)
    marked = proposal(tmp_path, frame.replace("none", "NA"))
    assert (marked.body["source"]["missing"], marked.body["unlabelled"]) == (["NA"], "drop")


def test_how_a_file_is_written_is_found_out_and_declared(tmp_path: Path) -> None:
    frame = trained.plants().assign(soil=every("Löß", "Ton"), age=every("1,5", "n/a", "2"))
    made = proposal(tmp_path, frame, sep=";", encoding="cp1252")
    source = {
        "path": "raw.csv",
        "encoding": "cp1252",
        "separator": ";",
        "quote": '"',
        "decimal": ",",
        "missing": ["n/a"],
    }
    assert made.body["source"] == source
    assert made.body["features"]["soil"] == {"type": "category"}
    assert proposal(tmp_path, frame, encoding="utf-16-le").body["source"]["encoding"] == "utf-16-le"


def test_what_is_proposed_trains_as_it_stands(tmp_path: Path) -> None:
    frame = trained.plants().assign(note=[f"{row} of many" for row in range(ROWS)], gap=every(1, ""))
    frame.to_csv(tmp_path / "raw.csv", index=False, sep="\t", encoding="utf-16")
    body, told = init_model(tmp_path, tmp_path / "raw.csv", target="outcome", name="", ids=(), force=False)
    assert body == yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert (body["name"], body["positive"], body["ignore"]) == ("raw", "green", ["note", "gap"])
    assert "a whole number of its own in each row" in told and "every row has '1'" in told
    for stage in (prepare, train, score):
        stage(Workspace(tmp_path))


def test_a_parquet_file_is_proposed_for_as_well(tmp_path: Path) -> None:
    trained.plants().assign(height=[row / 4 for row in range(ROWS)]).to_parquet(tmp_path / "raw.parquet")
    body = propose(tmp_path, "raw.parquet", target="outcome", name="plants", ids=()).body
    assert body["source"] == {"path": "raw.parquet", "format": "parquet"}
    assert body["features"]["height"] == {"type": "number"}


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (every("yes", "no", "no"), "yes"),
        (every("1", "0", "1"), 1),
        (every("True", "False"), True),
        (every("a", "b", "b"), "a"),
    ],
)
def test_the_positive_label_says_yes_or_is_the_rarest(tmp_path: Path, labels: list[str], positive: Label) -> None:
    assert proposal(tmp_path, trained.plants().assign(outcome=labels)).body["positive"] == positive


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (every("1.0", "0.0"), {"positive": 1}),
        (every("1,0", "3,5", "4,0"), {"task": "multiclass", "labels": "text"}),
        (every(2**53, 2**53 + 1, 3), {"task": "multiclass", "labels": "text"}),
        (every("00", "01"), {"positive": "00"}),
    ],
)
def test_labels_are_whole_numbers_where_they_stay_what_they_are(
    tmp_path: Path, labels: list[Any], wanted: dict[str, Any]
) -> None:
    made = proposal(tmp_path, trained.plants().assign(outcome=labels), sep=";")
    assert wanted.items() <= made.body.items()
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(made.body))
    prepare(Workspace(tmp_path))
    assert len(read_snapshot(Workspace(tmp_path).train).description.classes) == len(set(labels))


def test_numbers_that_are_different_in_most_rows_are_predicted_as_such(tmp_path: Path) -> None:
    frame = trained.plants()[:60].assign(outcome=[f"{row % 40}.25" for row in range(60)])
    assert proposal(tmp_path, frame).body["task"] == "regression"


def test_a_name_that_is_too_long_for_a_feature_is_ignored(tmp_path: Path) -> None:
    question = "How content were you with us? " * 9
    made = proposal(tmp_path, trained.plants().rename(columns={"age": question}))
    assert made.body["ignore"] == [question]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(made.body))
    prepare(Workspace(tmp_path))


def test_names_that_only_some_yaml_takes_for_numbers_are_quoted(tmp_path: Path) -> None:
    trained.plants().rename(columns={"age": "1e5", "soil": "0o17"}).to_csv(tmp_path / "raw.csv", index=False)
    body, _ = init_model(tmp_path, tmp_path / "raw.csv", target="outcome", name="", ids=(), force=False)
    written = (tmp_path / "model.yaml").read_text()
    assert "'1e5':" in written and "'0o17':" in written
    assert yaml.safe_load(written) == body


def test_a_column_whose_name_no_request_can_carry_is_ignored(tmp_path: Path) -> None:
    made = proposal(tmp_path, trained.plants().rename(columns={"age": 'a"ge', "soil": "soil, [kg]"}))
    assert made.body["ignore"] == ['a"ge']
    assert "soil, [kg]" in made.body["features"]


def test_a_rare_label_takes_another_seed(tmp_path: Path) -> None:
    frame = trained.plants()
    trains = [row for row in range(ROWS) if drawn(0, [str(row)]) >= 0.2]
    frame.loc[trains[:2], "outcome"] = "lost"
    made = proposal(tmp_path, frame)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(made.body))
    prepare(Workspace(tmp_path))
    assert made.body["split"]["seed"] > 0


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("tag", {"tag": [f"name {row}" for row in range(ROWS)]}, "target tag holds 400 different texts"),
        ("outcome", {"outcome": "green"}, "target outcome holds one label"),
        ("outcome", {"outcome": ["lost", *["green", "flowers"] * 199, "green"]}, "label 'lost' has one row"),
        ("outcome", {"outcome": ""}, "target outcome is empty"),
        ("colour", {}, "raw.csv has no column 'colour'"),
    ],
)
def test_a_target_that_nothing_can_predict_is_refused(
    tmp_path: Path, target: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        proposal(tmp_path, trained.plants().assign(**changes), target=target)


def test_the_target_is_no_id(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="outcome can't be both the target and an id"):
        proposal(tmp_path, trained.plants(), ids=("tag", "outcome"))


@pytest.mark.parametrize(("labels", "told"), [(("a", "b", ""), "'a' 134, 'b' 133"), ((1, 0, "NA"), "'1' 134, '0' 133")])
def test_rows_without_a_target_are_left_out(tmp_path: Path, labels: tuple[Any, ...], told: str) -> None:
    made = proposal(tmp_path, trained.plants().assign(outcome=every(*labels)))
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(made.body))
    target = next(each for each in made.roles if each.role == "target")
    assert target.why == f"{told}; 133 rows without it are left out"
    prepare(Workspace(tmp_path))
    parts = (Workspace(tmp_path).train, Workspace(tmp_path).evaluation)
    assert sum(len(read_snapshot(part).frame) for part in parts) == 267

    (tmp_path / "model.yaml").write_text(yaml.safe_dump({**made.body, "unlabelled": "refuse"}))
    with pytest.raises(UsageError, match=r"is missing, where the target is needed \(unlabelled: drop leaves"):
        prepare(Workspace(tmp_path))


def test_data_without_any_feature_is_refused_with_the_reasons(tmp_path: Path) -> None:
    frame = trained.plants()[["tag", "outcome"]].assign(note="same")
    with pytest.raises(UsageError, match=r"can be a feature: tag: a whole number .* note: every row has 'same'"):
        proposal(tmp_path, frame)


def test_nothing_is_written_over_or_from_outside_of_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    file = project / "raw.csv"
    trained.plants().to_csv(file, index=False)
    (project / "model.yaml").write_text("name: kept\n")
    with pytest.raises(UsageError, match="is there already"):
        init_model(project, file, target="outcome", name="", ids=(), force=False)
    assert (project / "model.yaml").read_text() == "name: kept\n"
    with pytest.raises(UsageError, match="is outside of the project"):
        init_model(project, file.rename(tmp_path / "raw.csv"), target="outcome", name="", ids=(), force=True)
