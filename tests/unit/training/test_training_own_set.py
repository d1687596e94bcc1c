"""Rows of one's own as an evaluation set: in the form that training logs, every row, and strictly read."""

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UsageError
from pipelines.packaging.snapshot import Snapshot, read_snapshot
from pipelines.training.own_set import write_own_set
from pipelines.training.prepare import prepare
from pipelines.training.workspace import Workspace
from tests.support.world.trained import plants, workspace

HARD = plants(60, seed=11)


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "project")


def own(project: Workspace, frame: pd.DataFrame) -> tuple[str, Snapshot]:
    file, into = project.root / "hard.csv", project.root / "evaluation.parquet"
    file.write_bytes(frame.to_csv(index=False).encode())
    return write_own_set(project.root, file, into), read_snapshot(into)


def refusal(project: Workspace, frame: pd.DataFrame) -> str:
    with pytest.raises(UsageError) as refused:
        own(project, frame)
    return refused.value.message


def test_every_row_evaluates_in_the_form_that_training_logs(project: Workspace) -> None:
    prepare(project)
    logged = read_snapshot(project.evaluation)

    digest, found = own(project, HARD)

    assert (len(found.frame), digest) == (len(HARD), found.digest)
    schemas = [pq.read_schema(path) for path in (project.evaluation, project.root / "evaluation.parquet")]
    assert schemas[0].remove_metadata() == schemas[1].remove_metadata()
    for part in ("model", "target", "positive", "classes", "protected", "task", "identity"):
        assert getattr(found.description, part) == getattr(logged.description, part)
    assert found.description.columns == logged.description.columns
    assert found.frame["outcome"].tolist() == HARD["outcome"].tolist()


def test_a_row_is_known_by_its_identity_as_it_is_in_training(project: Workspace) -> None:
    """A row of the hard cases that a version was trained on is found among those of its training."""
    prepare(project)
    trained_on = read_snapshot(project.train)

    _, found = own(project, plants())

    assert found.identities is not None and trained_on.identities is not None
    assert set(trained_on.identities.tolist()) < set(found.identities.tolist())


def test_parquet_gives_the_same_set_as_csv_and_the_same_rows_the_same_digest(project: Workspace) -> None:
    digest, _ = own(project, HARD)
    file = project.root / "hard.parquet"
    typed = pd.read_csv(io.StringIO(HARD.to_csv(index=False)))
    typed.astype({"tag": str}).to_parquet(file)

    again = write_own_set(project.root, file, project.root / "again.parquet")

    assert (again, own(project, HARD)[0]) == (digest, digest)


def test_a_source_that_is_pinned_by_its_digest_pins_no_other_file(tmp_path: Path) -> None:
    pinned = workspace(tmp_path / "pinned", source={"path": "raw/plants.csv", "sha256": "0" * 64})

    assert own(pinned, HARD)[1].frame["age"].tolist() == HARD["age"].astype(int).tolist()


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (4, "height", "tall", ["column height", "line 6", "'tall'", "is not a number"]),
        (9, "age", "99", ["column age", "line 11", "'99'", "above the declared maximum"]),
        (2, "outcome", "", ["column outcome", "line 4", "is missing"]),
    ],
)
def test_what_can_not_be_meant_is_refused_by_column_line_and_value(
    project: Workspace, row: int, column: str, value: str, said: list[str]
) -> None:
    wrong = HARD.copy()
    wrong.loc[row, column] = value

    message = refusal(project, wrong)

    assert all(each in message for each in said), message


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (HARD.drop(columns="soil"), "lacks columns ['soil']"),
        (HARD.assign(more=1), "has columns ['more'] without a role"),
        (HARD.iloc[:0], "no rows"),
        (HARD[HARD["outcome"] == "green"], "holds one label, 'green'"),
    ],
    ids=["a column less", "a column more", "no row", "one class"],
)
def test_what_is_no_set_of_the_model_is_refused(project: Workspace, frame: pd.DataFrame, said: str) -> None:
    assert said in refusal(project, frame)


def test_few_rows_of_a_label_or_a_category_are_a_set(project: Workspace) -> None:
    """What is too little to train on may be what a version is judged by."""
    few = pd.concat([HARD[HARD["outcome"] == "flowers"][:1], HARD[HARD["outcome"] == "green"][:2]])

    _, found = own(project, few.assign(soil=["clay", "loam", "sand"]))

    assert found.frame["outcome"].value_counts().min() == 1
    assert found.frame["soil"].nunique() == len(found.frame)


def test_a_file_that_is_not_there_is_refused(project: Workspace) -> None:
    with pytest.raises(UsageError, match="is no file"):
        write_own_set(project.root, project.root / "none.csv", project.root / "evaluation.parquet")
