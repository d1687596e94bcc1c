"""A real replica that serves the example bundle, and a client that holds each answer to what the service describes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.world.bundles import make_bundle
from tests.support.world.replicas import ReplicaProcess, listening, release

JSON = {"content-type": "application/json"}
UNKNOWN_TO_THE_MODEL = "atlantis"


@pytest.fixture(scope="package")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_bundle(tmp_path_factory.mktemp("bundles"), fails_on_region=UNKNOWN_TO_THE_MODEL)


@pytest.fixture(scope="package")
def replica(bundle: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    logs = tmp_path_factory.mktemp("logs")
    with listening() as shared, ReplicaProcess(logs, release(*bundle, version="6"), shared) as running:
        running.until_alive()
        yield running


@pytest.fixture(scope="package")
def client(replica: ReplicaProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replica.url, timeout=20.0, trust_env=False) as opened:
        described = opened.get("/openapi.json").json()["paths"]

        def held_to_it(response: httpx.Response) -> None:
            request = response.request
            route = described.get(request.url.path, {}).get(request.method.lower())
            assert route is None or str(response.status_code) in route["responses"], request.url

        opened.event_hooks = {"response": [held_to_it]}
        yield opened


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    return error


def fields_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 422, response.text
    error = error_of(response)
    assert error["code"] == "invalid_field"
    assert all(each["message"] for each in error["fields"])
    return [each["field"] for each in error["fields"]]


def post(client: httpx.Client, body: bytes, path: str = "/predict") -> httpx.Response:
    return client.post(path, content=body, headers=JSON)
