"""model.yaml: one truth for the features, and all wrong keys in one go."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.training.model_file import ModelFile
from tests.support.world import trained

BY_TIME = {"by": "time", "column": "seen", "evaluation_from": "2025-03-01", "reference": 0.5, "seed": 0}
HEIGHT, AGE = {"type": "number", "blank": 0.0}, {"type": "integer", "minimum": 1}


def load(root: Path, **changes: Any) -> ModelFile:
    body = {key: value for key, value in {**trained.describe("raw.csv"), **changes}.items() if value is not None}
    (root / "model.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    return ModelFile.load(root / "model.yaml")


def refusal(root: Path, **changes: Any) -> str:
    with pytest.raises(UsageError) as refused:
        load(root, **changes)
    return refused.value.message


def test_the_sections_of_before_read_as_the_one_of_today(tmp_path: Path) -> None:
    soil = {"categories": ["clay", "loam"]}
    former = {"numeric": {"height": HEIGHT, "age": AGE}, "categorical": {"soil": soil}}
    now = {"height": HEIGHT, "age": AGE, "soil": {"type": "category", **soil}}
    assert load(tmp_path, features=None, protected=[], **former) == load(tmp_path, features=now, protected=[])
    some = {"numeric": {"height": HEIGHT}, "features": {"age": AGE, "soil": now["soil"]}}
    assert set(load(tmp_path, protected=[], **some).features) == set(now)


def test_all_wrong_keys_are_named_at_once_by_their_place(tmp_path: Path) -> None:
    told = refusal(
        tmp_path,
        surprise=1,
        name="../escape",
        positive=[1],
        features={
            "age": {"type": "integer", "minimum": 0.5},
            "soil": {"type": "category", "minimum": 1},
            "height": {"type": "text"},
        },
        id_columns=["tag", "soil"],
        protected=["shoe_size"],
        estimator={"path": "system"},
        split={"evaluation": 0.7, "reference": 0.5, "seed": 0},
    )
    for part in (
        "surprise: there is no such key",
        "name: Value error, model name '../escape' is not a name",
        "positive: give a text, a number, true or false; ",
        "features.age: Value error, bounds of an integer feature must be whole numbers",
        "features.soil.minimum: there is no such key",
        "features.height.maximum_length: it is not given",
        "columns with two roles: soil",
        "protected: attributes that are no features: shoe_size",
        "estimator.path: ",
        "split: Value error, evaluation + reference is more than all rows",
    ):
        assert part in told, told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {}}, "features: Dictionary should have at least 1 item"),
        ({"features": None}, "features: it is not given"),
        ({"features": ["age"]}, "features: give keys with their values"),
        ({"features": {"age": {}}}, "features.age: give its type: integer, number, boolean, category, date, datetime"),
        ({"features": {"age": {"type": "colour"}}}, "features.age: its type is none of integer, number, boolean"),
        ({"source": "raw.csv"}, "source: give keys with their values"),
        ({"estimator": "sklearn.svm.SVC"}, "estimator: give keys with their values"),
        ({"name": 1}, "name: give a text"),
        ({"id_columns": "tag"}, "id_columns: give a list"),
        ({"numeric": {"age": AGE}}, "numeric.age: stands in two sections"),
        ({"features": {"outcome": AGE}}, "two roles: outcome"),
        ({"ignore": ["tag"]}, "two roles: tag"),
        ({"id_columns": ["tag", "tag"]}, "two roles: tag"),
        ({"features": {"soil": {"type": "category", "categories": ["a", "b", "a"]}}}, "given twice: 'a'"),
        ({"features": {"age": {"type": "integer", "blank": 0.5}}}, "blank of an integer feature"),
        ({"split": {"by": "time", "reference": 0.5, "seed": 0}}, "wrong: column, evaluation_from"),
        ({"split": {"evaluation": 0.2, "column": "seen", "reference": 0.5, "seed": 0}}, "wrong: column"),
        ({"split": {"reference": 0.5, "seed": 0}}, "by: hash needs evaluation alone"),
        ({"split": {**BY_TIME, "column": "outcome"}}, "split.column: outcome can't be the target"),
        ({"split": {**BY_TIME, "evaluation_from": "soon"}}, "split.evaluation_from: Value error, Invalid isoformat"),
        ({"split": {**BY_TIME, "evaluation_from": date(2025, 3, 1)}}, "write a date in quotes"),
        ({"split": {**BY_TIME, "evaluation_from": "0001-01-01T00:00+05:00"}}, "is no time of UTC"),
        ({"estimator": {"path": "system"}}, "estimator.path: "),
        ({"estimator": {"path": "a.B", "module": "b"}}, "estimator: Value error, give either path or module"),
        ({"source": {"path": "raw.csv", "separator": "::"}}, "source.separator: "),
        ({"source": {"path": "raw.csv", "separator": "\n"}}, "separator and quote can't be line ends"),
        ({"source": {"path": "raw.csv", "separator": '"'}}, "separator and quote can't be the same"),
        ({"source": {"path": "raw.csv", "sha256": "x"}}, "source.sha256: "),
    ],
)
def test_a_wrong_description_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, **{"protected": [], **changes})


@pytest.mark.parametrize(
    ("text", "message", "after"),
    [
        ("name: a\ntarget: b\nname: c\n", "'name' is given twice\n  in \"<unicode string>\", line 3", "correct "),
        ("name: [\n", "can't be read: while parsing", "correct "),
        ("", "file: give keys with their values", "correct "),
        ("- name\n", "file: give keys with their values", "correct "),
        (None, "can't be read: ", "write it, or have it proposed: slipway model init"),
    ],
)
def test_what_is_no_description_is_refused_with_what_to_do(
    tmp_path: Path, text: str | None, message: str, after: str
) -> None:
    file = tmp_path / "model.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as error:
        ModelFile.load(file)
    assert message in error.value.message
    assert error.value.next.startswith(after)


def test_parameters_name_the_type_of_every_feature(tmp_path: Path) -> None:
    told = load(tmp_path).flattened()
    assert (told["features.soil.type"], told["features.age.maximum"], told["split.seed"]) == ("category", "20.0", "3")


def test_a_card_becomes_tags_of_the_run_and_no_parameters(tmp_path: Path) -> None:
    told = load(tmp_path, card={"intended_use": " Water few plants. ", "owner": "Carol"})
    assert told.card.tags == {"slipway.card.intended_use": "Water few plants.", "slipway.card.owner": "Carol"}
    assert not any(key.startswith("card") for key in told.flattened())
    assert load(tmp_path).card.tags == {}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"intended": "x"}, "card.intended: there is no such key"),
        ({"owner": " "}, "card.owner: Value error, say something, or leave it out"),
        ({"owner": "x" * 1001}, "card.owner: Value error, 1,001 characters"),
        ({"owner": "two\nlines"}, "card.owner: Value error, it holds the character U+000A"),
        ({"owner": 3}, "card.owner: give a text"),
    ],
)
def test_a_card_holds_short_texts_that_people_see(tmp_path: Path, card: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, card=card)
