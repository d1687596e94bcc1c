from pathlib import Path
from typing import Any

import pytest

from pipelines.domain.bundle import FeatureType
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import read_snapshot
from pipelines.training.model_file import ModelFile
from pipelines.training.prepare import describe, prepare, raw_frame, typed_frame
from pipelines.training.workspace import Workspace, run_stage
from tests.support.world import trained

ROOT = Path(__file__).parents[3]


def test_the_hold_out_is_a_stratified_fifth_of_the_projects_data(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").symlink_to(ROOT / "model.yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(ROOT / "data/raw")
    made = Workspace(tmp_path)
    prepare(made)
    train, evaluation = read_snapshot(made.train), read_snapshot(made.evaluation)
    assert (len(train.frame), len(evaluation.frame)) == (5634, 1409)
    assert (evaluation.target == "Yes").mean() == pytest.approx((train.target == "Yes").mean(), abs=0.001)


def test_blanks_mean_what_model_yaml_says() -> None:
    model = ModelFile.load(ROOT / "model.yaml")
    raw = raw_frame(model, ROOT)
    blank = raw["TotalCharges"].str.strip() == ""
    assert blank.sum() == 11
    assert (typed_frame(model, raw)["TotalCharges"][blank] == 0.0).all()


def test_a_blank_without_a_meaning_is_refused_with_its_line(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[4, "age"] = " "
    with pytest.raises(UsageError, match=r"column age: ' ' in line 6 is not a number"):
        prepare(trained.workspace(tmp_path, frame))


def test_the_description_holds_declared_bounds_and_observed_values(tmp_path: Path) -> None:
    made = trained.workspace(tmp_path)
    model = ModelFile.load(made.model_file)
    frame = typed_frame(model, raw_frame(model, tmp_path))
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


def test_training_rows_and_evaluation_rows_are_disjoint_and_complete(tmp_path: Path) -> None:
    made = trained.workspace(tmp_path)
    prepare(made)
    heights = [list(read_snapshot(path).frame["height"]) for path in (made.train, made.evaluation)]
    assert sorted(heights[0] + heights[1]) == sorted(trained.plants()["height"].astype(float))


def test_changed_raw_data_stops_the_pipeline_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trained.workspace(tmp_path)
    with (tmp_path / "raw/plants.csv").open("a", encoding="utf-8") as file:
        file.write("400,1.0,1,clay,0,green\n")
    assert run_stage(prepare, ["--root", str(tmp_path)]) == 2
    assert "was changed: expected sha256" in capsys.readouterr().err
    assert not made.train.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"positive": True}, "positive: "),
        ({"positive": "maybe"}, "'maybe' among them|target outcome holds"),
        ({"protected": ["shoe_size"]}, "no features: shoe_size"),
        ({"id_columns": ["tag", "soil"]}, "two roles: soil"),
        ({"id_columns": []}, r"columns \['tag'\] without a role"),
        ({"categorical": {"soil": {"categories": ["clay", "loam"]}}}, "'sand' in line"),
        ({"split": {"evaluation": 0.7, "reference": 0.5, "seed": 0}}, "more than all rows"),
        ({"estimator": {"path": "system"}}, "estimator.path"),
        ({"estimator": {"path": "a.B", "module": "b"}}, "estimator: Value error, give either path or module"),
        ({"name": "../escape"}, "not a name"),
    ],
)
def test_a_wrong_description_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(trained.workspace(tmp_path, **changes))


def test_a_value_outside_of_declared_bounds_is_refused(tmp_path: Path) -> None:
    frame = trained.plants()
    frame.loc[0, "age"] = "21"
    with pytest.raises(UsageError, match="'21' in line 2 is above the declared maximum 20"):
        prepare(trained.workspace(tmp_path, frame))
