"""The API describes every answer that it gives, and its /docs needs no other host."""

import pytest

from tests.support.world.api import GUARDED, OPEN, Api, description, filled
from tests.support.world.docs import assets_of
from tests.support.world.openapi import answers, loose_parts

# What the author of an action writes, and a policy, which may be of an older format than today's.
FREE = {".detail.*", ".policy.*", ".body.*"}


def test_every_answer_has_a_form_to_its_last_field() -> None:
    document = description()
    loose = {
        part.removeprefix(".entries[]") for _, _, schema in answers(document) for part in loose_parts(document, schema)
    }

    assert loose == FREE


def test_every_refusal_is_described_in_the_one_form() -> None:
    refusals = [(route, status, schema) for route, status, schema in answers(description()) if int(status) >= 400]

    assert {route.split()[1] for route, _, _ in refusals} == {
        path for path in description()["paths"] if path not in OPEN
    }
    for route, status, schema in refusals:
        assert schema["title"] == "ErrorResponse", (route, status)


def test_every_answer_takes_no_field_that_is_not_described() -> None:
    schemas = description()["components"]["schemas"]
    asked = {name for name in schemas if name.endswith("Request") or name == "RequestBody"}

    for name in set(schemas) - asked - {"JsonValue"}:
        if schemas[name]["type"] == "object":
            assert schemas[name]["additionalProperties"] is False, name


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_what_needs_a_token_says_so(method: str, path: str) -> None:
    (operation,) = [
        methods[method.lower()] for route, methods in description()["paths"].items() if filled(route) == path
    ]

    assert operation["security"] == [{"HTTPBearer": []}]
    assert "401" in operation["responses"]


def test_the_docs_get_all_that_they_need_from_the_api_itself(api: Api) -> None:
    assets = assets_of(lambda path: api.send("GET", path, person=None))

    assert "/api/v1/openapi.json" in assets
    assert {path.rsplit(".")[-1] for path in assets} == {"css", "js", "json", "png"}
