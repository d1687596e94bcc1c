"""The validators that are made from a bundle's features agree, whatever the features are called."""

import json
from typing import Any

import pytest

from app.errors import InvalidFields, RequestError
from app.model.bundle import Dtype, Feature, FeatureType
from app.model.schema import RequestSchema

ODD_NAMES = ("class", "_private", "model_config", "Monthly charges (€)", "f1", "a.b", "__init__", "copy")


def _schema(*features: Feature, dtype: Dtype = Dtype.FLOAT32) -> RequestSchema:
    dtypes = {each.name: Dtype.STRING if each.type is FeatureType.CATEGORY else dtype for each in features}
    return RequestSchema(features, dtypes)


def _refused(schema: RequestSchema, row: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidFields) as caught:
        schema.decode_row(json.dumps(row).encode())
    return [each.field for each in caught.value.fields]


def test_any_text_is_a_feature_name() -> None:
    schema = _schema(*(Feature(name, FeatureType.NUMBER) for name in ODD_NAMES))
    row = dict.fromkeys(ODD_NAMES, 1.5)
    decoded = schema.decode_row(json.dumps(row).encode())
    assert [getattr(decoded, attribute) for attribute in schema.attributes] == [1.5] * len(ODD_NAMES)
    assert _refused(schema, row | {"class": "x", "copy": None}) == ["class", "copy"]


def test_attribute_behind_a_name_is_no_field() -> None:
    schema = _schema(Feature("age", FeatureType.INTEGER))
    assert set(_refused(schema, {"f0": 1})) == {"age", "f0"}


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-2.5, 2.5), (None, 0), (0, None)])
def test_declared_bounds_are_allowed_and_the_next_values_are_not(low: float | None, high: float | None) -> None:
    for kind, step in ((FeatureType.INTEGER, 1), (FeatureType.NUMBER, 0.001)):
        schema = _schema(Feature("x", kind, minimum=low, maximum=high))
        as_kind = int if kind is FeatureType.INTEGER else float
        if low is not None:
            schema.decode_row(json.dumps({"x": as_kind(low)}).encode())
            assert _refused(schema, {"x": as_kind(low) - step}) == ["x"]
        if high is not None:
            schema.decode_row(json.dumps({"x": as_kind(high)}).encode())
            assert _refused(schema, {"x": as_kind(high) + step}) == ["x"]


def test_number_that_the_models_type_cannot_hold_is_refused() -> None:
    feature = Feature("x", FeatureType.NUMBER)
    assert _refused(_schema(feature), {"x": 3.5e38}) == ["x"]
    _schema(feature, dtype=Dtype.FLOAT64).decode_row(b'{"x": 3.5e38}')


def test_integer_is_accepted_where_a_number_is_asked() -> None:
    decoded = _schema(Feature("x", FeatureType.NUMBER)).decode_row(b'{"x": 3}')
    assert decoded.f0 == 3.0  # type: ignore[attr-defined]


def test_category_with_marks_of_the_message_format_is_named_rightly() -> None:
    schema = _schema(Feature("x", FeatureType.CATEGORY, categories=("a`b", "c - at `$.y`")))
    schema.decode_row(b'{"x": "a`b"}')
    assert _refused(schema, {"x": "d"}) == ["x"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"\xff": 1}', b"nul", b'{"x": 01}'])
def test_what_is_not_json_is_no_field_error(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        _schema(Feature("x", FeatureType.NUMBER)).decode_row(body)
    assert (caught.value.status, caught.value.fields) == (400, ())
