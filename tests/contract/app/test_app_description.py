"""The service describes every answer that it gives, and its /docs needs no other host."""

from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.world.docs import assets_of
from tests.support.world.openapi import answers, loose_parts, resolve


def test_openapi_describes_the_schema_of_the_release(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    def request_schema(path: str) -> dict[str, Any]:
        content = document["paths"][path]["post"]["requestBody"]["content"]
        return resolve(document, content["application/json"]["schema"])

    row = request_schema("/predict")
    assert row["required"] == ["age", "visits", "income", "plan", "home_region"]
    assert row["additionalProperties"] is False
    assert row["properties"]["plan"]["enum"] == ["basic", "plus", "pro"]
    assert (row["properties"]["age"]["minimum"], row["properties"]["age"]["maximum"]) == (0, 120)
    assert resolve(document, request_schema("/predict/batch")["properties"]["rows"]["items"]) == row
    assert client.get("/docs").status_code == 200


def test_every_answer_has_a_form_to_its_last_field(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    assert set(document["paths"]) == {"/health", "/ready", "/metrics", "/predict", "/predict/batch"}
    for route, status, schema in answers(document):
        assert schema["required"], (route, status)
        assert list(loose_parts(document, schema)) == [], (route, status)


def test_operations_have_the_names_that_a_generated_client_shall_have(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    found = {path: operation["operationId"] for path, kinds in paths.items() for operation in kinds.values()}
    assert found == {
        "/health": "health", "/ready": "ready", "/metrics": "metrics", "/predict": "predict",
        "/predict/batch": "predict_batch",
    }  # fmt: skip


@pytest.mark.parametrize("route", ["POST /predict", "POST /predict/batch"])
def test_every_refusal_of_a_prediction_is_described_in_the_one_form(client: httpx.Client, route: str) -> None:
    document = client.get("/openapi.json").json()
    forms = {status: schema["title"] for described, status, schema in answers(document) if described == route}

    refused = {status: form for status, form in forms.items() if status != "200"}
    assert refused == dict.fromkeys(("400", "408", "413", "415", "422", "500", "503", "504"), "ErrorReply")


def test_a_replica_that_is_not_ready_is_described(client: httpx.Client) -> None:
    forms = {
        status: schema for route, status, schema in answers(client.get("/openapi.json").json()) if "ready" in route
    }

    assert set(forms["200"]["properties"]) == {"digest", "version", "pid", "restarts"}
    assert set(forms["503"]["properties"]) == {"reason", "pid"}


def test_the_docs_get_all_that_they_need_from_the_service_itself(client: httpx.Client) -> None:
    assets = assets_of(client.get)

    assert "/openapi.json" in assets
    assert {path.rsplit(".")[-1] for path in assets} == {"css", "js", "json", "png"}


def test_the_docs_of_a_service_below_a_path_are_its_own(client: httpx.Client) -> None:
    def below(path: str) -> httpx.Response:
        assert path.startswith("/models/second/"), f"{path} is another service's"
        return client.get(path.removeprefix("/models/second"))

    document = "/models/second/openapi.json"
    assert document in assets_of(below, "/models/second/docs")
    (server,) = below(document).json()["servers"]
    assert urljoin(document, server["url"]) == "/models/second/"
