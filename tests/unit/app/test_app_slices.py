"""A batch that is decoded slice by slice gives what it gives when it is decoded whole."""

import json
from typing import Any

import msgspec
import pytest

from app.errors import InvalidFields, RequestError
from app.model.bundle import Dtype, Feature, FeatureType
from app.model.schema import RequestSchema
from app.model.slices import ROW_LIMIT_BYTES, ROWS_LIMIT, WHOLE_BYTES, decode_in_slices, most_rows

TRAP = 'a"},{\\"},  {'
SCHEMA = RequestSchema(
    (Feature("x", FeatureType.NUMBER), Feature("kind", FeatureType.CATEGORY, categories=("plain", TRAP))),
    {"x": Dtype.FLOAT32, "kind": Dtype.STRING},
)
LAYOUTS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 3}, {"separators": (" ,\t", " : ")}]


def rows(count: int, kind: str) -> list[dict[str, Any]]:
    return [{"x": number / 8, "kind": kind} for number in range(count)]


def decoded(body: bytes | bytearray) -> list[msgspec.Struct]:
    return [row for each in decode_in_slices(SCHEMA, body) for row in each]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["plain", TRAP])
def test_slices_hold_the_rows_of_the_whole(layout: dict[str, Any], kind: str) -> None:
    body = json.dumps({"rows": rows(9000, kind)}, **layout).encode()
    assert len(list(decode_in_slices(SCHEMA, body))) > 3
    assert decoded(bytearray(b" \n" + body + b"\r\n\t")) == SCHEMA.decode_batch(body)


@pytest.mark.parametrize("at", [0, 1, 4000, 8998, 8999])
@pytest.mark.parametrize("fault", [{"x": "1"}, {"kind": "},{"}, {"more": 1}])
def test_a_fault_is_named_by_its_row_and_field(at: int, fault: dict[str, Any]) -> None:
    given = rows(9000, TRAP)
    given[at] |= fault
    with pytest.raises(InvalidFields) as refused:
        decoded(json.dumps({"rows": given}).encode())
    assert [each.field for each in refused.value.fields] == [f"rows.{at}.{next(iter(fault))}"]


WELL = json.dumps(rows(9000, "plain"))[1:-1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (f'{{"rows":[{WELL}', 400),
        (f'{{"rows":[{WELL},]}}', 400),
        (f'{{"rows":[{WELL} {WELL}]}}', 400),
        (f'{{"rows":[{WELL},{{]}}', 400),
        (f'{{"rows":[{WELL}]]}}', 400),
        (f'{{"rows":[{WELL}],"more":1}}', 422),
        (f'{{"rows":[{WELL},7]}}', 422),
        (f'{{"rows":[{" " * WHOLE_BYTES}]}}', 422),
        (f'{{"rows":[{{"x":{" " * 2 * ROW_LIMIT_BYTES}1,"kind":"plain"}},{WELL}]}}', 422),
        (f'[{{"rows":[{WELL}]}}]', 422),
        (f'{{"rows":{{"rows":[{WELL}]}}}}', 422),
        (f'{{"ro\\u0077s":[{WELL}{(", " + WELL) * 4}]}}', 422),
        (f'{{"ro\\u0077s":[{WELL}]}}', 422),
    ],
    ids=range(13),
)
def test_what_is_no_batch_is_refused(body: str, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        decoded(body.encode())
    assert refused.value.status == status


def test_rows_are_bounded_in_number() -> None:
    row = b'{"x":1,"kind":"plain"}'
    body = b'{"rows":[' + b",".join([row] * (ROWS_LIMIT + 1)) + b"]}"
    with pytest.raises(RequestError) as refused:
        decoded(body)
    assert (refused.value.status, refused.value.code) == (413, "too_large")


def test_a_slice_of_small_rows_holds_few_of_them() -> None:
    row = b'{"x":1,"kind":"plain"}'
    body = b'{"rows":[' + b",".join([row] * 9000) + b"]}"
    sizes = [len(each) for each in decode_in_slices(SCHEMA, body)]
    assert sum(sizes) == 9000
    assert max(sizes) <= most_rows(SCHEMA, body) + 1 <= 1000


def test_what_is_decoded_whole_has_no_more_rows_than_are_said() -> None:
    body = json.dumps({"rows": rows(900, TRAP)}).encode()
    assert len(body) < WHOLE_BYTES
    assert len(decoded(body)) <= most_rows(SCHEMA, body)


@pytest.mark.parametrize("between", [b",", b" ,\n"])
def test_many_rows_that_leave_everything_out_are_not_decoded_at_once(between: bytes) -> None:
    features = tuple(Feature(f"x{number}", FeatureType.NUMBER, nullable=True) for number in range(100))
    schema = RequestSchema(features, {each.name: Dtype.FLOAT32 for each in features})
    body = b'{"rows": [' + between.join([b"{}"] * 10_000) + b"]}"
    assert len(body) < WHOLE_BYTES
    sizes = [len(each) for each in decode_in_slices(schema, body)]
    assert (sum(sizes), max(sizes) <= most_rows(schema, body) + 1 <= 1000) == (10_000, True)
