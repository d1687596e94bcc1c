"""The validators that are made from a bundle's features agree, whatever the features are called."""

import json
import time
from typing import Any

import pytest

from app.errors import FieldError, InvalidFields, RequestError, error_body
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


def _reply(schema: RequestSchema, body: bytes) -> dict[str, Any]:
    with pytest.raises(RequestError) as caught:
        schema.decode_batch(body) if b'"rows"' in body else schema.decode_row(body)
    reply = error_body(caught.value, "request")
    assert len(reply) < 20_000
    answer: dict[str, Any] = json.loads(reply)["error"]
    return answer


def test_of_many_allowed_values_a_few_are_named_and_how_many_there_are() -> None:
    values = tuple(f"category number {number}" for number in range(20_000))
    schema = _schema(*(Feature(f"x{n}", FeatureType.CATEGORY, categories=values) for n in range(30)))
    row = json.dumps(dict.fromkeys((f"x{n}" for n in range(30)), "other")).encode()

    for body in (row, b'{"rows": [%s]}' % row):
        answer = _reply(schema, body)
        assert (answer["code"], len(answer["fields"])) == ("invalid_field", 30)
        first = answer["fields"][0]
        assert first["field"].endswith("x0")
        assert "one of 20,000 values, such as 'category number 0', 'category number 1'" in first["message"]


def test_few_allowed_values_are_all_named() -> None:
    schema = _schema(Feature("x", FeatureType.CATEGORY, categories=("a", "b")))
    assert _reply(schema, b'{"x": "c"}')["fields"] == [{"field": "x", "message": "Input should be 'a' or 'b'"}]


@pytest.mark.parametrize("count", [10_000, 1_000_000])
@pytest.mark.parametrize("name", ["n", "\\u0001"], ids=["plain", "escaped"])
def test_a_refusal_does_not_repeat_what_was_sent(count: int, name: str) -> None:
    schema = _schema(Feature("x", FeatureType.NUMBER))
    long = (name * count).encode()
    for body in (b'{"%s": 1}' % long, b'{"rows": [{"%s": 1}]}' % long, b'{"x": "%s"}' % long):
        assert _reply(schema, body)["code"] == "invalid_field"
    many = ", ".join(f'"{name * 100}{number}": 1' for number in range(90)).encode()
    assert 1 <= len(_reply(schema, b'{"x": 1, %s}' % many)["fields"]) <= 90


def test_long_values_of_a_model_do_not_make_a_long_refusal() -> None:
    values = tuple(each * 100_000 for each in "abc")
    schema = _schema(Feature("x", FeatureType.CATEGORY, categories=values))
    assert "... (of 300," in _reply(schema, b'{"x": "c"}')["fields"][0]["message"]


@pytest.mark.parametrize("value", ["2.0", "2", "2e0", "-0.0", "9007199254740991.0"])
def test_a_whole_number_is_an_integer_however_it_is_written(value: str) -> None:
    schema = _schema(Feature("x", FeatureType.INTEGER))
    body = b'{"x": %s}' % value.encode()
    assert schema.decode_row(body).f0 == schema.row_model.model_validate_json(body).f0 == float(value)  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["2.5", "9007199254740993.0", "9007199254740992", "1e300", "true", '"2"'])
def test_what_is_no_whole_number_that_all_read_alike_is_no_integer(value: str) -> None:
    schema = _schema(Feature("x", FeatureType.INTEGER))
    assert [each["field"] for each in _reply(schema, b'{"x": %s}' % value.encode())["fields"]] == ["x"]
    large = b'{"rows": [{"x": %s}, %s]}' % (value.encode(), b",".join([b'{"x": 1}'] * 10_000))
    assert [each["field"] for each in _reply(schema, large)["fields"]] == ["rows.0.x"]


@pytest.mark.parametrize("name", ["a.b", "a[0]", "gross weight [kg]", "a`b", "rows", " ", "é%,/-"])
def test_the_fast_validator_too_names_a_field_as_it_is_called(name: str) -> None:
    schema = _schema(Feature(name, FeatureType.NUMBER))
    many = [{name: 1.0}] * 10_000
    for row, field in (({name: "x"}, name), ({}, name), ({name: 1, "o`[1].": 2}, "o`[1].")):
        reply = _reply(schema, json.dumps({"rows": [*many, row]}).encode())
        assert [each["field"] for each in reply["fields"]] == [f"rows.10000.{field}"]


def test_naming_the_faults_of_many_keys_takes_time_by_their_number_alone() -> None:
    schema = _schema(*(Feature(f"feature {number}", FeatureType.NUMBER) for number in range(2000)))
    body = json.dumps({f"x{number}": 1 for number in range(10_000)}).encode()
    begun_s = time.thread_time()
    assert _reply(schema, body)["fields"][0] == {"field": "feature 0", "message": "Field required"}
    # Of the processor: each key compared with each feature would take several times as much.
    assert time.thread_time() - begun_s < 1.5


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"[]", "", "Input should be an object"),
        (b'{"rows": [1]}', "rows.0", "Input should be an object"),
        (b'{"rows": {}}', "rows", "Input should be a valid array"),
    ],
)
def test_a_refusal_speaks_of_json(body: bytes, field: str, message: str) -> None:
    schema = _schema(Feature("x", FeatureType.NUMBER))
    with pytest.raises(InvalidFields) as refused:
        schema.decode_batch(body) if field else schema.decode_row(body)
    assert refused.value.fields == (FieldError(field, message),)
