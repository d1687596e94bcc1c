"""A bundle is loaded whole and unchanged, or not at all."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import BundleError
from app.model.bundle import Bundle, read_bundle
from app.model.scoring import load
from tests.support.world.bundles import make_bundle, read_description, write_bundle

Change = Callable[[dict[str, Any]], None]


def _changed(tmp_path: Path, change: Change) -> Bundle:
    """A bundle with a valid digest over a changed description."""
    path, _ = make_bundle(tmp_path / "original")
    description = read_description(path)
    change(description)
    changed, digest = write_bundle(tmp_path / "changed", description, (path / "model.onnx").read_bytes())
    return read_bundle(changed, digest=digest)


def test_whole_bundle_is_read_with_the_bytes_that_were_checked(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    bundle = read_bundle(path, digest=digest)
    assert bundle.digest == digest
    assert bundle.content == (path / "model.onnx").read_bytes()
    assert [feature.name for feature in bundle.description.features] == [
        "age",
        "visits",
        "income",
        "plan",
        "home_region",
    ]


def test_same_arguments_make_the_same_bundle_and_another_seed_another(tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "a")[1] == make_bundle(tmp_path / "b")[1]
    assert make_bundle(tmp_path / "a")[1] != make_bundle(tmp_path / "b", seed=1)[1]


def test_other_digest_than_the_released_one_is_refused_with_both(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    released = "sha256:" + "0" * 64
    with pytest.raises(BundleError, match=f"expected {released}, got {digest}"):
        read_bundle(path, digest=released)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_one_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    path, digest = make_bundle(tmp_path)
    content = bytearray((path / name).read_bytes())
    content[-2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"digest mismatch of {name}"):
        read_bundle(path, digest=digest)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    path, digest = make_bundle(tmp_path)
    (path / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(path, digest=digest)


def test_a_file_or_folder_beside_the_listed_ones_stops_nobody(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    (path / "weights.bin").write_bytes(b"external data")
    (path / "evidence").mkdir()
    assert read_bundle(path, digest=digest).content == (path / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "a\\b", "..", "", "bundle.json"])
def test_file_name_that_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="not plain"):
        _changed(tmp_path, lambda description: description["files"].update({name: "sha256:00"}))


def _no_categories(description: dict[str, Any]) -> None:
    description["features"][3]["categories"] = []


def _text_input_for_a_number(description: dict[str, Any]) -> None:
    description["onnx"]["inputs"][0]["dtype"] = "string"


def _other_positive_class(description: dict[str, Any]) -> None:
    description["onnx"]["positive_index"] = 0


def _index_from_the_end(description: dict[str, Any]) -> None:
    description["onnx"]["positive_index"] = -1


def _feature_without_input(description: dict[str, Any]) -> None:
    description["onnx"]["inputs"].pop()


def _same_feature_twice(description: dict[str, Any]) -> None:
    description["features"][1] = description["features"][0]


def _no_golden_rows(description: dict[str, Any]) -> None:
    description["golden"].update(rows=[], expected=[])


def _later_schema(description: dict[str, Any]) -> None:
    description["schema_version"] = 2


@pytest.mark.parametrize(
    "change",
    [
        _no_categories,
        _text_input_for_a_number,
        _other_positive_class,
        _index_from_the_end,
        _feature_without_input,
        _same_feature_twice,
        _no_golden_rows,
        _later_schema,
    ],
)
def test_description_that_contradicts_itself_is_refused(tmp_path: Path, change: Change) -> None:
    with pytest.raises(BundleError):
        _changed(tmp_path, change)


def test_model_that_answers_otherwise_than_at_packaging_is_refused(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path, wrong_golden=True)
    with pytest.raises(BundleError, match="golden row 0 mismatch"):
        load(read_bundle(path, digest=digest))


def test_golden_row_that_the_schema_refuses_is_refused(tmp_path: Path) -> None:
    bundle = _changed(tmp_path, lambda description: description["golden"]["rows"][0].update(age=-1))
    with pytest.raises(BundleError, match="golden row is refused"):
        load(bundle)


def test_model_with_other_inputs_than_described_is_refused(tmp_path: Path) -> None:
    def other_dtype(description: dict[str, Any]) -> None:
        description["onnx"]["inputs"][0]["dtype"] = "float64"

    with pytest.raises(BundleError, match=r"model\.onnx takes"):
        load(_changed(tmp_path, other_dtype))


def test_model_without_the_described_output_is_refused(tmp_path: Path) -> None:
    bundle = _changed(tmp_path, lambda description: description["onnx"].update(probabilities="scores"))
    with pytest.raises(BundleError, match="no output scores"):
        load(bundle)


def test_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path / "original")
    description = read_description(path)
    content = b"\x80\x04 not a model"
    description["files"]["model.onnx"] = "sha256:" + hashlib.sha256(content).hexdigest()
    path, digest = write_bundle(tmp_path / "changed", description, content)
    with pytest.raises(BundleError, match="does not run"):
        load(read_bundle(path, digest=digest))
