"""What changed in the data of a model, by the verb itself, between revisions of a project and its working tree."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
import yaml

from pipelines.adapters.jobs.files import lay_out
from pipelines.errors import JobFailed, NotServable, UsageError
from pipelines.evaluation.job import carry_out
from pipelines.operator.data_diff import _told
from pipelines.packaging.confined import Run
from pipelines.packaging.logged_data import ask_logged_data
from pipelines.packaging.snapshot import read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.settings.settings import ROOT
from pipelines.training.differences import compare, read_tree, registered_side
from pipelines.training.prepare import prepare
from tests.support.world.trained import describe, plants, workspace
from tests.support.world.verbs import run_module

ROWS = 60


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose first revision is committed."""
    root = tmp_path / "project"
    workspace(root, plants(ROWS))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *named, *command], cwd=root, check=True, timeout=30)
    return root


def write(root: Path, frame: pd.DataFrame, **changes: Any) -> None:
    frame.to_csv(root / "raw/plants.csv", index=False)
    (root / "model.yaml").write_text(yaml.safe_dump(describe("raw/plants.csv", **changes), sort_keys=False))


def diff(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    environ = {**kept, "PYTHONPATH": str(ROOT), "SLIPWAY_PROJECT": str(root), "SLIPWAY_HOME": str(root / "home")}
    return run_module("pipelines.cli", ["data", "diff", *words], cwd=root, environ=environ, timeout_s=120)


def job(place: Path) -> Run:
    """Return what runs the program of confined jobs within this process: the files of these tests are known."""

    def run(task: bytes, files: Mapping[str, Path]) -> bytes:
        folder = place / uuid4().hex
        folder.mkdir()
        lay_out(folder, task, files)
        return carry_out(task, folder)

    return run


def grown(rows: int, more: int) -> pd.DataFrame:
    """Return the same rows as ever, and so many more."""
    beside = plants(more, seed=8)
    return pd.concat([plants(rows), beside.assign(tag=[f"more-{tag}" for tag in beside["tag"]])], ignore_index=True)


def changed() -> pd.DataFrame:
    """Four rows more, one less, two with another value, and a kind of soil that nobody had."""
    frame = grown(ROWS, 4).drop(index=0)
    frame.loc[[3, 4], "height"] = "99.5"
    frame.loc[5, "soil"] = "peat"
    return frame


def test_rows_columns_and_categories_that_changed_are_said_and_break_nothing(project: Path) -> None:
    frame = changed()
    frame["width"] = [str(number / 2) if number % 4 else "" for number in range(len(frame))]
    features = describe("")["features"] | {"width": {"type": "number", "nullable": True}}
    write(project, frame, features=features)
    done = diff(project, "HEAD", ".", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == {"by": ["tag"], "added": 4, "removed": 1, "changed": 3}
    said = {column["name"]: column["changes"] for column in found["columns"]}
    assert said["soil"] == ["category 'peat' is new"]
    assert said["width"] == ["added, number, may be missing"]
    assert any("ranges from" in each and "99.5" in each for each in said["height"])
    assert (found["breaks"], found["declared"]) == ([], None)
    assert (found["old"], found["new"]) == ("revision HEAD", "the working tree")


@pytest.mark.parametrize("ids", [["tag"], []])
def test_answers_that_changed_are_counted_by_the_row(tmp_path: Path, ids: list[str]) -> None:
    frame, ignored = plants(ROWS), [] if ids else ["tag"]
    write(workspace(tmp_path / "old", frame).root, frame, id_columns=ids, ignore=ignored)
    other = frame.assign(outcome=frame["outcome"].where(frame.index > 6, "flowers")).iloc[::-1]
    write(workspace(tmp_path / "new", frame).root, other, id_columns=ids, ignore=ignored)
    found = compare(read_tree(tmp_path / "old", "old"), read_tree(tmp_path / "new", "new"))
    corrected = int((frame["outcome"][:7] != "flowers").sum())
    assert [(each.name, each.changes) for each in found.columns] == [
        ("outcome", (f"is another one in {corrected} rows that both have",))
    ]


def test_one_more_row_with_the_values_and_the_answer_of_another_changes_no_answer(tmp_path: Path) -> None:
    frame = plants(ROWS)
    write(workspace(tmp_path / "old", frame).root, frame, id_columns=[], ignore=["tag"])
    more = pd.concat([frame, frame.iloc[:5]], ignore_index=True)
    write(workspace(tmp_path / "new", more).root, more, id_columns=[], ignore=["tag"])
    found = compare(read_tree(tmp_path / "old", "old"), read_tree(tmp_path / "new", "new"))
    assert "outcome" not in {each.name for each in found.columns}


def test_what_breaks_clients_ends_with_3_unless_model_yaml_declares_it(project: Path) -> None:
    features = {name: rule for name, rule in describe("")["features"].items() if name != "potted"}
    frame = plants(ROWS).drop(columns="potted")
    write(project, frame, features=features, protected=[])
    done = diff(project, "HEAD", ".")
    assert done.returncode == 3, done.stderr
    assert "breaks clients: feature potted is gone, and unknown fields are refused" in done.stdout
    assert "rows (by tag): 0 added, 0 removed, 0 changed" in done.stdout
    assert done.stdout.rstrip().endswith("not declared: the gate schema stops such a version")

    declared = {"change": "breaking", "reason": "the pots are gone"}
    write(project, frame, features=features, protected=[], schema=declared)
    done = diff(project, "HEAD", ".")
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("declared in model.yaml: the pots are gone")


def test_columns_that_came_and_went_without_a_word_of_model_yaml_are_found(project: Path) -> None:
    plants(ROWS).rename(columns={"height": "size"}).to_csv(project / "raw/plants.csv", index=False)
    done = diff(project, "HEAD", ".", "--json")
    found = json.loads(done.stdout)
    said = {column["name"]: column["changes"] for column in found["columns"]}
    assert (said["height"], said["size"]) == (["dropped"], ["added, without a role in model.yaml"])
    assert done.returncode == 3


def test_what_a_version_says_of_its_columns_stays_on_its_line_and_is_counted_where_it_is_much(tmp_path: Path) -> None:
    root = workspace(tmp_path, plants(ROWS))
    prepare(root)
    snapshot = read_snapshot(root.evaluation)
    known = snapshot.description
    kinds = [f"kind {number}" for number in range(2000)]
    soil = next(each for each in known.features if each.name == "soil")
    others = tuple(each for each in known.features if each is not soil)
    described = replace(known, features=(*others, replace(soil, name="so\nclients notice nothing", categories=())))
    rows = TrainingRows.of(snapshot)
    old, more = (
        replace(known, features=(*others, replace(soil, categories=tuple(categories))))
        for categories in (kinds, [f"other {kind}" for kind in kinds])
    )
    sides = [registered_side("version 1", each, rows, None) for each in (old, more, described)]
    (column,) = compare(*sides[:2]).columns
    assert [change[:60] for change in column.changes] == [
        "2,000 values are new, such as 'other kind 0', 'other kind 1'",
        "2,000 values are gone, such as 'kind 0', 'kind 1', 'kind 2',",
    ]
    told = _told(replace(compare(sides[0], sides[2]), declared="all is well\nclients notice nothing"))
    assert "clients notice nothing" not in told.splitlines()
    assert r"so\nclients notice nothing" in told


def test_nothing_that_changed_is_said_as_well(project: Path) -> None:
    plants(ROWS).iloc[::-1].to_csv(project / "raw/plants.csv", index=False)
    done = diff(project, "HEAD", ".")
    assert done.returncode == 0
    assert "0 added, 0 removed, 0 changed\nno column changed\nclients notice nothing" in done.stdout


@pytest.mark.parametrize("word", ["nowhere", "-h/x", "HEAD~7"])
def test_a_state_that_there_is_not_ends_with_2(project: Path, word: str) -> None:
    done = diff(project, "--json", "--", word, ".")
    assert done.returncode == 2
    assert "revision" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize("ids", [["tag"], []])
def test_a_version_is_compared_by_what_its_run_has_logged(tmp_path: Path, ids: list[str]) -> None:
    made = workspace(tmp_path, plants(), id_columns=ids, ignore=[] if ids else ["tag"])
    prepare(made)
    TrainingRows.of(read_snapshot(made.train)).write(tmp_path / "rows")
    version = registered_side("version 1", *ask_logged_data(job(tmp_path), made.evaluation, tmp_path / "rows"))
    frame = grown(400, 10).drop(index=[0, 1, 2])
    frame.loc[7, "height"] = "51"
    frame.to_csv(tmp_path / "raw/plants.csv", index=False)
    found = compare(version, read_tree(tmp_path, "tree")).rows
    assert found is not None
    told = (found.by, found.added, found.removed, found.changed)
    # Without ids a row of other values is another row.
    assert told == (("tag",), 10, 3, 1) if ids else told == ((), 11, 4, None)
    silent = registered_side("version 1", *ask_logged_data(job(tmp_path), made.evaluation, None))
    assert compare(silent, read_tree(tmp_path, "tree")).rows is None


@pytest.mark.parametrize("fault", ["evaluation", "rows", "lengths", "columns", "bytes", "description"])
def test_what_a_version_has_logged_is_read_by_a_job_and_believed_in_one_form_only(tmp_path: Path, fault: str) -> None:
    made = workspace(tmp_path, plants())
    prepare(made)
    TrainingRows.of(read_snapshot(made.train)).write(tmp_path / "rows")
    if fault in ("evaluation", "rows"):
        broken = {"evaluation": made.evaluation, "rows": tmp_path / "rows"}[fault]
        broken.write_bytes(b"no parquet")
        with pytest.raises(NotServable, match=r"is not a snapshot|does not say which rows"):
            ask_logged_data(job(tmp_path), made.evaluation, tmp_path / "rows")
        return

    def forged(task: bytes, files: Mapping[str, Path]) -> bytes:
        answer = json.loads(job(tmp_path)(task, files))
        rows = answer["trained_on"]
        if fault == "lengths":
            rows["identities"] = ""
        elif fault == "columns":
            rows["missing"] = {}
        elif fault == "bytes":
            rows["contents"] = "AAAA"
        else:
            answer["description"]["positive"] = "never"
        return json.dumps(answer).encode()

    with pytest.raises(JobFailed, match="answered what is no"):
        ask_logged_data(forged, made.evaluation, tmp_path / "rows")


def test_what_is_missing_more_often_is_said(tmp_path: Path) -> None:
    features = {**describe("")["features"], "height": {"type": "number", "nullable": True}}
    workspace(tmp_path, plants(100), features=features)
    old = read_tree(tmp_path, "old")
    frame = plants(100)
    frame.loc[frame.index[:20], "height"] = ""
    frame.to_csv(tmp_path / "raw/plants.csv", index=False)
    (column,) = [each for each in compare(old, read_tree(tmp_path, "new")).columns if each.name == "height"]
    assert "is missing in 20.00% of the rows, before in 0.00%" in column.changes


def test_data_without_its_target_is_refused(tmp_path: Path) -> None:
    workspace(tmp_path, plants(100))
    plants(100).drop(columns="outcome").to_csv(tmp_path / "raw/plants.csv", index=False)
    with pytest.raises(UsageError, match="lacks columns"):
        read_tree(tmp_path, "tree")
