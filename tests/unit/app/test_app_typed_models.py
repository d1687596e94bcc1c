"""Models of each task, with a feature of each type: what the service takes, gives the model, and answers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.errors import BundleError, InvalidFields, RequestError
from app.model.bundle import read_bundle
from app.model.scoring import Scorer, load
from tests.support.world.typed_bundles import FEATURES, ROW, answer_of, make_typed_bundle

TASKS = ["binary", "multiclass", "regression"]


def loaded(directory: Path, task: str, **options: Any) -> Scorer:
    path, digest = make_typed_bundle(directory, task, **options)
    return load(read_bundle(path, digest=digest))


def scored(scorer: Scorer, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    decoded = [scorer.schema.decode_row(msgspec.json.encode(row)) for row in rows]
    batch = scorer.schema.decode_batch(msgspec.json.encode({"rows": rows}))
    alone = [msgspec.to_builtins(scorer.score_row(row)) for row in decoded]
    assert [msgspec.to_builtins(answer) for answer in scorer.score_rows(batch)] == alone
    return alone


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_each_task_answers_in_its_own_form_whatever_is_missing(tmp_path: Path, task: str, packed: bool) -> None:
    rows = [ROW, *({**ROW, feature["name"]: None} for feature in FEATURES if feature["nullable"])]
    rows += [{name: value for name, value in ROW.items() if name != "words"}, {"label": 2.0}]

    assert scored(loaded(tmp_path, task, packed=packed), *rows) == [answer_of(task, row) for row in rows]


@pytest.mark.parametrize("at", ["2024-01-01T00:00:07", "2024-01-01T02:00:07+02:00", "2023-12-31T23:00:07-01:00"])
def test_a_time_is_its_moment_and_without_an_offset_one_of_utc(tmp_path: Path, at: str) -> None:
    assert scored(loaded(tmp_path, "regression"), ROW | {"at": at}) == [answer_of("regression", ROW)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", True),
        ("count", "2"),
        ("net weight", -6),
        ("flag", 1),
        ("flag", "true"),
        ("kind", "c"),
        ("kind", ""),
        ("words", "x" * 21),
        ("words", 7),
        ("day", "2024-02-30"),
        ("day", 20240103),
        ("day", "2024-01-03T00:00:00Z"),
        ("at", "yesterday"),
        ("at", 1700000000),
        ("label", None),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(tmp_path: Path, field: str, value: Any) -> None:
    scorer = loaded(tmp_path, "regression")
    with pytest.raises(InvalidFields) as refused:
        scorer.schema.decode_row(msgspec.json.encode(ROW | {field: value}))
    assert [fault.field for fault in refused.value.fields] == [field]


def test_only_what_is_nullable_may_be_left_out(tmp_path: Path) -> None:
    scorer = loaded(tmp_path, "binary")
    with pytest.raises(InvalidFields) as refused:
        scorer.schema.decode_row(b"{}")
    assert [fault.field for fault in refused.value.fields] == ["label"]


def test_a_regression_without_a_finite_value_has_no_answer(tmp_path: Path) -> None:
    scorer = loaded(tmp_path, "regression")
    row = scorer.schema.decode_row(msgspec.json.encode(ROW | {"label": 1.7e308, "net weight": 1.7e308}))
    with pytest.raises(RequestError, match="no finite answer"):
        scorer.score_row(row)


CLASSES = {"target": "y", "classes": [0, 1, 2], "positive": None}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task": "regression"}, "no outputs of a regression"),
        ({"task": "binary"}, "no outputs of a binary"),
        ({"task": "clustering"}, "clustering"),
        ({"output": CLASSES | {"positive": 1}}, "no outputs of a multiclass"),
        ({"output": CLASSES | {"classes": [0, 1, "2"]}}, "no outputs of a multiclass"),
        ({"output": CLASSES | {"classes": [0, 1, 1]}}, "no outputs of a multiclass"),
        ({"features": FEATURES[1:]}, "one for one"),
        ({"features": [*FEATURES, FEATURES[0]]}, "one for one"),
        ({"features": [FEATURES[0] | {"type": "text", "maximum_length": 5}, *FEATURES[1:]]}, "count is text"),
        ({"features": [*FEATURES[:3], FEATURES[3] | {"categories": ["", "b"]}, *FEATURES[4:]]}, "empty category"),
        ({"features": [*FEATURES[:4], FEATURES[4] | {"maximum_length": None}, *FEATURES[5:]]}, "maximum_length"),
        ({"schema_version": 3}, "3"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BundleError, match=why):
        loaded(tmp_path, "multiclass", changes=changes)


def test_golden_answers_of_another_task_are_refused(tmp_path: Path) -> None:
    golden = {"rows": [ROW], "expected": [answer_of("regression", ROW)], "tolerance": 1e-5}
    with pytest.raises(BundleError, match="golden answers"):
        loaded(tmp_path, "multiclass", changes={"golden": golden})


def test_a_model_whose_answers_have_changed_is_refused(tmp_path: Path) -> None:
    answer = answer_of("multiclass", ROW)
    answer["probabilities"] = dict.fromkeys(answer["probabilities"], 0.5)
    golden = {"rows": [ROW], "expected": [answer], "tolerance": 1e-5}
    with pytest.raises(BundleError, match="golden row 0 mismatch"):
        loaded(tmp_path, "multiclass", changes={"golden": golden})
