"""One format of `bundle.json`: docs/reference/bundle.schema.json holds who writes it and who serves it."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from app.model import bundle as served
from pipelines.domain.description import Description
from pipelines.settings.settings import ROOT
from tests.support.world.bundles import make_bundle, read_description

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "reference" / "bundle.schema.json").read_text())
# What the service reads, by the names that the schema gives to what is written.
STRUCTS: dict[str, Any] = {
    "Answer": served.Answer,
    "CategoryFeature": served.Feature,
    "Golden": served.Golden,
    "ModelInput": served.Input,
    "NumericFeature": served.Feature,
    "Onnx": served.Onnx,
    "Output": served.Output,
    "Range": served.Range,
}
# The service passes on where a bundle comes from as it stands.
NOT_READ = {"Datasets", "Provenance"}


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
    written = {key for part in ("CategoryFeature", "NumericFeature") for key in SCHEMA["$defs"][part]["properties"]}

    assert keys(served.Feature) == written
    types = [SCHEMA["$defs"][part]["properties"]["type"] for part in ("CategoryFeature", "NumericFeature")]
    named = {name for type_ in types for name in type_.get("enum", [type_.get("const")])}
    assert named == set(served.FeatureType)


def test_both_know_the_same_element_types_and_version() -> None:
    assert set(SCHEMA["$defs"]["ModelInput"]["properties"]["dtype"]["enum"]) == set(served.Dtype)
    (version,) = get_args(msgspec.structs.fields(served.Description)[0].type)
    assert SCHEMA["properties"]["schema_version"]["const"] == version


def test_what_packaging_writes_is_read_by_the_service_to_the_letter(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    body = read_description(path)
    description = Description.read(body)

    assert description.as_json() == body
    read = served.read_bundle(path, digest=digest).description
    assert read.model == description.model
    assert [feature.name for feature in read.features] == [feature.name for feature in description.features]
    assert [answer.probability for answer in read.golden.expected] == [
        answer.probability for answer in description.golden.expected
    ]


def test_a_key_that_the_format_does_not_know_is_refused_by_both(tmp_path: Path) -> None:
    body = read_description(make_bundle(tmp_path)[0]) | {"surprise": 1}

    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.convert(body, served.Description)
    with pytest.raises(Exception, match="surprise"):
        Description.read(body)
