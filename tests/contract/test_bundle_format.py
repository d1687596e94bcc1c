"""One format of `bundle.json`: docs/reference/bundle.schema.json holds who writes it and who serves it."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from app.model import bundle
from app.model import description as served
from app.model.bundle import read_bundle
from pipelines.domain.bundle import FeatureType
from pipelines.domain.description import Description, Task
from pipelines.packaging import onnx_model
from pipelines.settings.settings import ROOT
from tests.support.world.bundles import make_bundle, read_description
from tests.support.world.typed_bundles import make_typed_bundle

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "reference" / "bundle.schema.json").read_text())
# What the service reads, by the names that the schema gives to what is written.
STRUCTS: dict[str, Any] = {
    "Answer": served.Answer,
    "CategoryFeature": served.Feature,
    "ClassAnswer": served.ClassAnswer,
    "Golden": served.Golden,
    "ModelInput": served.Input,
    "NumericFeature": served.Feature,
    "Onnx": served.Onnx,
    "Output": served.Output,
    "PlainFeature": served.Feature,
    "Range": served.Range,
    "TextFeature": served.Feature,
    "ValueAnswer": served.ValueAnswer,
}
FEATURES = ("CategoryFeature", "NumericFeature", "PlainFeature", "TextFeature")
# The service passes on where a bundle comes from as it stands, and a task is no part but a word.
NOT_READ = {"Datasets", "Provenance", "Task"}


def keys(struct: Any, *, needed: bool = False) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct) if field.required or not needed}


def test_the_service_reads_every_part_that_is_written() -> None:
    assert set(STRUCTS) | NOT_READ == set(SCHEMA["$defs"])
    assert keys(served.Description) == set(SCHEMA["properties"]) == set(SCHEMA["required"])


@pytest.mark.parametrize("part", STRUCTS)
def test_the_service_knows_each_key_of_a_part_and_needs_none_that_is_not_written(part: str) -> None:
    written = SCHEMA["$defs"][part]

    assert set(written["properties"]) <= keys(STRUCTS[part])
    assert keys(STRUCTS[part], needed=True) <= set(written["required"]) == set(written["properties"])


def test_the_service_reads_no_key_of_a_feature_that_nobody_writes() -> None:
    written = {key for part in FEATURES for key in SCHEMA["$defs"][part]["properties"]}

    assert keys(served.Feature) == written
    types = [SCHEMA["$defs"][part]["properties"]["type"] for part in FEATURES]
    named = {name for type_ in types for name in type_.get("enum", [type_.get("const")])}
    assert named == set(served.FeatureType) == set(FeatureType)


def test_both_know_the_same_element_types_tasks_and_version() -> None:
    assert set(SCHEMA["$defs"]["ModelInput"]["properties"]["dtype"]["enum"]) == set(served.Dtype)
    assert set(SCHEMA["$defs"]["Task"]["enum"]) == set(served.Task) == set(Task)
    (version,) = get_args(msgspec.structs.fields(served.Description)[0].type)
    assert SCHEMA["properties"]["schema_version"]["const"] == version


def test_packaging_makes_no_bundle_whose_inputs_the_service_refuses() -> None:
    served_types = {str(kind): set(map(str, dtypes)) for kind, dtypes in bundle._DTYPES.items()}
    assert {str(kind): dtypes for kind, dtypes in onnx_model._FITTING.items()} == served_types


@pytest.mark.parametrize("task", Task)
def test_a_bundle_of_each_task_is_the_same_to_both(tmp_path: Path, task: Task) -> None:
    path, digest = make_typed_bundle(tmp_path, task)
    body = read_description(path)
    description = Description.read(body)

    assert description.as_json() == body
    assert description.in_format_1() is None
    read = served.read_description((path / "bundle.json").read_bytes())
    assert json.loads(msgspec.json.encode(read.output)) == description.output.as_json()
    assert [msgspec.to_builtins(each) for each in served.read_answers(read)] == [
        each.as_json() for each in description.golden.expected
    ]
    assert read_bundle(path, digest=digest).description == read


def test_format_1_says_the_same_to_both_and_can_be_written_again(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    body = read_description(path)
    description = Description.read(body)

    assert (body["schema_version"], description.schema_version) == (1, 2)
    assert description.in_format_1() == body
    read = read_bundle(path, digest=digest).description
    assert msgspec.json.decode(json.dumps(description.as_json()), type=served.Description) == read


def test_a_key_that_the_format_does_not_know_is_refused_by_both(tmp_path: Path) -> None:
    body = read_description(make_bundle(tmp_path)[0]) | {"surprise": 1}

    with pytest.raises(msgspec.ValidationError, match="surprise"):
        served.read_description(json.dumps(body).encode())
    with pytest.raises(Exception, match="surprise"):
        Description.read(body)
