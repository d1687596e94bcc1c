"""Whether a file is a set that versions of a model can be judged by, as a confined job finds it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Description, Task
from pipelines.errors import JobFailed, NotServable
from pipelines.evaluation.job import carry_out
from pipelines.packaging.added_set import ask_added_set
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from tests.support.world.bundles import make_bundle

FEATURES = (Feature("height", FeatureType.NUMBER), Feature("soil", FeatureType.CATEGORY, categories=("clay", "sand")))
AGE = Feature("age", FeatureType.NUMBER)
ROWS = pd.DataFrame({"height": [1.0, 2.0, 3.0], "soil": ["clay", "sand", "clay"], "label": ["no", "yes", "no"]})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description of a bundle of these features and classes."""
    path, _ = make_bundle(tmp_path_factory.mktemp("bundles"))
    body = Description.read(json.loads((path / "bundle.json").read_text())).as_json()
    output = {"target": "label", "classes": ["no", "yes"], "positive": "yes"}
    features = [feature.written().as_json() for feature in FEATURES]
    return {**body, "features": features, "output": output}


def asked(place: Path, frame: pd.DataFrame, bundle: dict[str, Any] | None = None, **changes: Any) -> int:
    """Have a job look at rows that are written as a set."""
    described = {"model": "toy", "target": "label", "positive": "yes", "classes": ("no", "yes")}
    description = SnapshotDescription(**{**described, "features": FEATURES, "protected": (), **changes})
    write_snapshot(place / "set.parquet", frame, description)

    def run(task: bytes, files: Mapping[str, Path]) -> bytes:
        folder = place / "job"
        folder.mkdir()
        for name, file in files.items():
            (folder / name).write_bytes(file.read_bytes())
        return carry_out(task, folder)

    return ask_added_set(run, place / "set.parquet", model="toy", bundle=bundle)


def test_the_rows_of_a_set_are_counted_with_and_without_a_bundle_that_serves(
    tmp_path: Path, served: dict[str, Any]
) -> None:
    assert asked(tmp_path, ROWS) == 3
    (tmp_path / "more").mkdir()
    assert asked(tmp_path / "more", ROWS, served) == 3


NUMBERS: dict[str, Any] = {"positive": None, "classes": (), "task": Task.REGRESSION}


@pytest.mark.parametrize(
    ("frame", "changes", "said"),
    [
        (ROWS, {"model": "other"}, "is an evaluation set of 'other', and not of toy"),
        (ROWS.iloc[:0], {}, "has no rows"),
        (ROWS[ROWS["label"] == "no"], {}, "'label' has one value only, 'no'"),
        (ROWS.assign(label=[1.0, 1.0, 1.0]), NUMBERS, "'label' has one value only, '1.0'"),
        (ROWS.assign(label=[1.0, float("inf"), 2.0]), NUMBERS, "no finite number"),
        (ROWS.assign(height=[1.0, None, 2.0]), {}, "'height' is empty in row 2"),
    ],
    ids=["another model's", "no row", "one class", "one number", "infinite", "empty"],
)
def test_what_judges_nothing_is_refused(
    tmp_path: Path, frame: pd.DataFrame, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotServable) as refused:
        asked(tmp_path, frame, **changes)

    assert said in refused.value.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "multiclass"}, "the task of the evaluation set is binary, and multiclass that of what serves"),
        ({"output": {"target": "grade", "classes": ["no", "yes"], "positive": "yes"}}, "the target of the evaluation"),
        ({"output": {"target": "label", "classes": ["no", "on"], "positive": "on"}}, "does not know: 'yes'"),
        ({"features": [AGE.written().as_json()]}, "has no column 'age'"),
        ({"features": [replace(AGE, name="soil").written().as_json()]}, "feature 'soil' is 'clay' in row 1"),
    ],
    ids=["task", "target", "classes", "column", "type"],
)
def test_what_fits_no_version_that_serves_is_refused(
    tmp_path: Path, served: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    bundle = {**served, **changes}

    with pytest.raises(NotServable) as refused:
        asked(tmp_path, ROWS, bundle)

    assert said in refused.value.message


def test_a_feature_that_may_be_missing_needs_no_column(tmp_path: Path, served: dict[str, Any]) -> None:
    age = replace(AGE, nullable=True).written().as_json()

    assert asked(tmp_path, ROWS, {**served, "features": [*served["features"], age]}) == 3


@pytest.mark.parametrize("answer", [b'{"rows": 0}', b'{"rows": "3"}x', b'{"rows": 3, "more": 1}'])
def test_an_answer_in_another_form_counts_for_nothing(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(JobFailed):
        ask_added_set(lambda task, files: answer, tmp_path, model="toy", bundle=None)
