"""What the operator sees of evaluation sets: which one is meant, what it holds, and what differs between two."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.errors import NotServable, UsageError
from pipelines.evaluation.job import carry_out
from pipelines.operator.evalsets import (
    add_set,
    added_told,
    chosen,
    differences,
    differences_told,
    set_as_json,
    set_told,
    sets_table,
)
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.read_set import EvaluationSet, ask_evaluation_set
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.training.own_set import write_own_set
from tests.support.world.trained import plants, workspace

SETS: list[dict[str, Any]] = [
    {"number": 1, "digest": "sha256:" + "a" * 64, "version": "1", "named": [], "in_force": True, "judged": ["e-1"]},
    {
        "number": 2,
        "digest": "sha256:" + "a" * 8 + "b" * 56,
        "version": "4",
        "named": ["hard"],
        "in_force": False,
        "judged": [],
    },
]
FEATURES = (Feature("height", FeatureType.NUMBER), Feature("soil", FeatureType.CATEGORY, categories=("clay", "sand")))


def read(place: Path, frame: pd.DataFrame, *, task: Task = Task.BINARY) -> EvaluationSet:
    """Write rows as a set, and have a job read them."""
    classes = () if task is Task.REGRESSION else ("no", "yes")
    positive = None if task is Task.REGRESSION else "yes"
    described = SnapshotDescription("toy", "label", positive, classes, FEATURES, (), task)
    write_snapshot(place / "set.parquet", frame, described)
    return ask_evaluation_set(in_job(place), place / "set.parquet")


def in_job(place: Path) -> Callable[[bytes, Mapping[str, Path]], bytes]:
    def run(task: bytes, files: Mapping[str, Path]) -> bytes:
        folder = place / "job"
        folder.mkdir(exist_ok=True)
        for name, file in files.items():
            (folder / name).write_bytes(file.read_bytes())
        return carry_out(task, folder)

    return run


def rows(*labels: Any, height: float = 1.0) -> pd.DataFrame:
    count = len(labels)
    return pd.DataFrame({"height": [height + n for n in range(count)], "soil": ["clay"] * count, "label": list(labels)})


@pytest.mark.parametrize(
    ("word", "number"), [("1", 1), ("2", 2), ("hard", 2), ("a" * 8 + "b", 2), (SETS[0]["digest"], 1)]
)
def test_a_set_is_meant_by_number_name_or_digest(word: str, number: int) -> None:
    assert chosen(SETS, word)["number"] == number


@pytest.mark.parametrize(
    ("word", "said"), [("a" * 7, "may mean"), ("3", "is no evaluation set"), ("", "is no"), ("c" * 9, "is no")]
)
def test_what_means_no_set_or_several_is_refused(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        chosen(SETS, word)


def test_sets_are_listed_for_a_terminal() -> None:
    table = sets_table(SETS).splitlines()

    assert [line.split()[0] for line in table[1:]] == ["1", "2"]
    assert "in force" in table[1] and "1 (e-1 last)" in table[1]
    assert "hard" in table[2] and "none" in table[2]
    assert "make candidate" in sets_table([])


def test_what_a_set_holds_is_read_in_a_job_and_told(tmp_path: Path) -> None:
    held = read(tmp_path, rows("no", "no", "no", "yes"))

    told = set_told(SETS[0], held).splitlines()
    assert told[1] == "4 rows"
    assert [line.split() for line in told[3:5]] == [["no", "3", "75.0%"], ["yes", "1", "25.0%"]]
    body = set_as_json(SETS[0], held)
    assert (body["rows"], body["labels"], body["target"]) == (4, {"no": 3, "yes": 1}, None)
    assert body["missing"] == {"height": 0, "soil": 0}


def test_the_target_of_a_regression_is_told_by_its_spread(tmp_path: Path) -> None:
    held = read(tmp_path, rows(1.0, 2.0, 30.0), task=Task.REGRESSION)

    assert "label: 1 to 30, the middle 2" in set_told(SETS[0], held)
    assert set_as_json(SETS[0], held)["target"] == {"least": 1.0, "middle": 2.0, "greatest": 30.0}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_set_with_a_row_of_which_nobody_knows_the_truth_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(NotServable, match=r"the target 'label' is .* in row 2 of the evaluation set, in 1 rows"):
        read(tmp_path, rows(1.0, value, 30.0), task=Task.REGRESSION)


def test_what_is_no_set_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"PAR1 and nothing else")

    with pytest.raises(NotServable):
        ask_evaluation_set(in_job(tmp_path), tmp_path / "set.parquet")


def test_two_sets_differ_by_their_rows(tmp_path: Path) -> None:
    one, other = read(tmp_path, rows("no", "yes")), read(tmp_path, rows("no", "yes", "yes", height=2.0))

    found = differences(("set 1", "set 2"), (one, other))

    assert found.rows is not None
    assert (found.rows.added, found.rows.removed) == (2, 1)
    told = differences_told(found).splitlines()
    assert told[:2] == ["from set 1 to set 2", "rows (by their values): 2 added, 1 removed"]
    assert differences_told(differences(("a", "b"), (one, one))).splitlines()[1:] == [
        "rows (by their values): 0 added, 0 removed",
        "no column changed",
    ]


def own(number: int, digest: str, name: str, **more: Any) -> dict[str, Any]:
    """Return a set that bob has added, as the API lists it."""
    added = {"name": name, "rows": 60, "run_id": "a" * 32, "person": "bob", "at": "2026-11-29T10:00:00.000+00:00"}
    listed = {"number": number, "digest": digest, "version": None, "added": added, "named": [], "judged": []}
    return {**listed, "in_force": False, **more}


OWN = [own(3, "sha256:" + "c" * 64, "recent"), own(4, "sha256:" + "d" * 64, "recent"), own(5, "sha256:e", "hard")]


@pytest.mark.parametrize(("word", "number"), [("recent", 4), ("hard", 2), ("ddddddd", 4)])
def test_a_set_is_meant_by_the_name_it_was_last_added_by_unless_the_policy_has_one(word: str, number: int) -> None:
    assert chosen([*SETS, *OWN], word)["number"] == number


def test_who_added_a_set_when_and_by_which_name_is_listed() -> None:
    both = own(6, "sha256:f", "mine", version="7")

    *_, added, known = sets_table([*SETS, OWN[0], both]).splitlines()

    assert "bob as recent, 2026-11-29" in added
    assert "v7; bob as mine, 2026-11-29" in known


def test_what_an_added_set_holds_is_told_with_who_added_it(tmp_path: Path) -> None:
    told = set_told(OWN[0], read(tmp_path, rows("no", "yes")))

    assert told.startswith("set 3, of bob as recent, 2026-11-29: sha256:ccc")


class FakeApi:
    """The routes of sets, as the client calls them; what is asked for is added at once."""

    def __init__(self) -> None:
        self.sets: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/evalsets"
        return {"evalsets": self.sets}

    def ask(self, path: str, body: dict[str, Any], report_progress: Callable[[str], None]) -> dict[str, Any]:
        assert path == "/evalsets"
        self.asked.append(body)
        self.sets.append(own(len(self.sets) + 1, body["digest"], body["name"]))
        return {}


def test_rows_are_logged_once_and_asked_for_by_their_digest(tmp_path: Path) -> None:
    project, api, logged = workspace(tmp_path).root, FakeApi(), list[tuple[str, str]]()
    file = project / "hard.csv"
    plants(60, seed=5).to_csv(file, index=False)

    def log(snapshot: Path) -> str:
        logged.append((snapshot.name, digest_of_file(snapshot)))
        return "a" * 32

    def added(name: str) -> tuple[dict[str, Any], bool]:
        client: Any = api
        return add_set(file, name, project, client, log, report_progress=lambda line: None)

    first, known = added("hard_cases")
    again, repeated = added("by_another_name")

    assert (known, repeated, again) == (False, True, first)
    [(logged_as, digest)] = logged
    assert logged_as == "evaluation.parquet"
    assert api.asked == [{"name": "hard_cases", "digest": digest, "run_id": "a" * 32}]
    told = added_told(first, known=False).splitlines()
    assert told[0] == f"Added evaluation set 1, hard_cases: 60 rows, {digest}"
    assert told[-3:] == ["evaluation:", "  sets:", f'    hard_cases: {{digest: "{digest}"}}']
    assert added_told(first, known=True).startswith("Known: bob added it at 2026-11-29")


def test_a_set_that_a_version_alone_has_brought_is_added_under_its_name(tmp_path: Path) -> None:
    project, api = workspace(tmp_path).root, FakeApi()
    plants(60, seed=5).to_csv(project / "hard.csv", index=False)
    digest = write_own_set(project, project / "hard.csv", tmp_path / "set.parquet")
    api.sets = [{**SETS[0], "digest": digest, "added": None}]
    client: Any = api

    _, known = add_set(
        project / "hard.csv", "mine", project, client, lambda snapshot: "a" * 32, report_progress=lambda line: None
    )

    assert (known, [each["digest"] for each in api.asked]) == (False, [digest])


@pytest.mark.parametrize("name", ["", "Hard", "hard cases", "../x", "x" * 41])
def test_a_name_that_a_policy_can_not_have_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    client: Any = None
    with pytest.raises(UsageError, match="is no name of a set"):
        add_set(tmp_path / "none", name, tmp_path, client, lambda file: "", report_progress=lambda line: None)
