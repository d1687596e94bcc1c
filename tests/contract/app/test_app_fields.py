"""Wrong fields are refused by their names."""

import json
from typing import Any

import httpx
import pytest

from tests.support.world.bundles import valid_row
from tests.support.world.service import fields_of, post


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"age": -1}, "age"),
        ({"age": 121}, "age"),
        ({"age": 41.5}, "age"),
        ({"age": True}, "age"),
        ({"age": "41"}, "age"),
        ({"age": None}, "age"),
        ({"visits": 2**53 + 1}, "visits"),
        ({"visits": 2.0**53}, "visits"),
        ({"visits": 10**30}, "visits"),
        ({"income": "much"}, "income"),
        ({"income": False}, "income"),
        ({"income": [1.0]}, "income"),
        ({"income": 1e39}, "income"),
        ({"income": -1e300}, "income"),
        ({"plan": "gold"}, "plan"),
        ({"plan": 1}, "plan"),
        ({"plan": ""}, "plan"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_value_is_refused_by_field(client: httpx.Client, changes: dict[str, Any], field: str) -> None:
    assert fields_of(client.post("/predict", json=valid_row(**changes))) == [field]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("field", ["age", "income"])
def test_number_that_is_not_finite_is_refused_by_field(client: httpx.Client, number: str, field: str) -> None:
    body = json.dumps(valid_row(**{field: "@"})).replace('"@"', number)
    assert fields_of(post(client, body.encode())) == [field]


def test_value_at_a_declared_bound_is_accepted(client: httpx.Client) -> None:
    for age in (0, 120):
        assert client.post("/predict", json=valid_row(age=age)).status_code == 200


def test_a_whole_number_with_a_decimal_point_is_an_integer(client: httpx.Client) -> None:
    body = json.dumps(valid_row(age=41))
    answers = [post(client, body.replace('"age": 41', f'"age": {age}').encode()) for age in ("41", "41.0", "4.1e1")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json()["probability"] for answer in answers}) == 1


def test_all_faults_of_a_row_are_named(client: httpx.Client) -> None:
    row = valid_row(age=-1, plan="gold", colour="red")
    del row["income"]
    assert set(fields_of(client.post("/predict", json=row))) == {"age", "plan", "colour", "income"}


def test_faults_of_a_batch_are_named_with_their_row(client: httpx.Client) -> None:
    rows = [valid_row(), valid_row(), valid_row(), valid_row(age=-1, plan="gold")]
    answer = client.post("/predict/batch", json={"rows": rows})
    assert fields_of(answer) == ["rows.3.age", "rows.3.plan"]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (valid_row(age=-1), "rows.999.age"),
        ({"age": 41, "visits": 3, "income": 1.0, "plan": "pro"}, "rows.999.home_region"),
        (valid_row(colour="red"), "rows.999.colour"),
    ],
)
def test_fault_in_a_large_batch_is_named_too(client: httpx.Client, row: dict[str, Any], field: str) -> None:
    answer = client.post("/predict/batch", json={"rows": [valid_row()] * 999 + [row]})
    assert fields_of(answer) == [field]


def test_fault_that_only_the_fast_validator_sees_is_a_refusal_too(client: httpx.Client) -> None:
    body = json.dumps(valid_row()).replace('"plus"', '"pl\\ud800us"')
    assert post(client, body.encode()).status_code in (400, 422)


def test_repeated_field_counts_with_its_last_value(client: httpx.Client) -> None:
    body = json.dumps(valid_row())
    repeated = body.replace('"age": 41', '"age": 41, "age": -1')
    assert fields_of(post(client, repeated.encode())) == ["age"]
    repeated = body.replace('"age": 41', '"age": -1, "age": 41')
    assert post(client, repeated.encode()).status_code in (200, 422)
