import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.adapters.mlflow.versions import MlflowVersions
from pipelines.errors import RegistryUnavailable, UnknownVersion
from tests.support.servers.servers import free_port

SEARCH = "/api/2.0/mlflow/model-versions/search"
MODEL = "/api/2.0/mlflow/registered-models/get"


class StandIn(ThreadingHTTPServer):
    """Answers as MLflow would: `answers` maps a path to a status and a body, `asked` keeps the queries."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.logins: list[str | None] = []
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def holds(self, *versions: dict[str, Any], aliases: dict[str, str]) -> None:
        """Register versions and aliases of one model."""
        entries = [{"alias": alias, "version": version} for alias, version in aliases.items()]
        model = {"registered_model": {"name": "toy-model", **({"aliases": entries} if entries else {})}}
        self.answers[MODEL] = (200, json.dumps(model).encode())
        self.answers[SEARCH] = (200, json.dumps({"model_versions": versions} if versions else {}).encode())


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.path, parse_qs(url.query)))
        self.server.logins.append(self.headers["authorization"])
        time.sleep(self.server.delay_s)
        (page,) = parse_qs(url.query).get("page_token", [""])
        status, body = self.server.answers.get(url.path + page, (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def mlflow() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def versions(mlflow: StandIn) -> MlflowVersions:
    return MlflowVersions(mlflow.url)


def held(number: int, **tags: str) -> dict[str, Any]:
    entries = [{"key": key, "value": value} for key, value in tags.items()]
    return {"version": str(number), "run_id": f"run-{number}", **({"tags": entries} if tags else {})}


def test_versions_come_newest_first_by_number_with_their_tags_and_aliases(
    mlflow: StandIn, versions: MlflowVersions
) -> None:
    mlflow.holds(
        held(2, lifecycle="Staging"), held(10), held(9), aliases={"staging": "2", "extra": "2", "production": "9"}
    )

    assert versions.versions("toy-model") == [
        {"version": "10", "run_id": "run-10", "tags": {}, "aliases": []},
        {"version": "9", "run_id": "run-9", "tags": {}, "aliases": ["production"]},
        {"version": "2", "run_id": "run-2", "tags": {"lifecycle": "Staging"}, "aliases": ["extra", "staging"]},
    ]
    assert mlflow.asked[0] == (SEARCH, {"filter": ["name='toy-model'"], "max_results": ["1000"]})


def test_every_page_of_the_versions_is_read(mlflow: StandIn, versions: MlflowVersions) -> None:
    mlflow.holds(held(1003), held(1002), aliases={})
    for page, shown, following in (("", (1003, 1002), "a"), ("a", (2, 1), "b"), ("b", (), "b")):
        body = {"model_versions": [held(number) for number in shown], "next_page_token": following}
        mlflow.answers[SEARCH + page] = (200, json.dumps(body).encode())

    assert [row["version"] for row in versions.versions("toy-model")] == ["1003", "1002", "2", "1"]
    assert (versions.resolve("toy-model", "1"), versions.resolve("toy-model", None)) == ("1", "1003")


def test_a_model_that_does_not_exist_yet_has_no_versions_and_no_aliases(
    mlflow: StandIn, versions: MlflowVersions
) -> None:
    mlflow.answers[SEARCH] = (200, b"{}")

    assert versions.versions("toy-model") == []
    assert versions.aliases("toy-model") == {}


def test_a_model_without_aliases_has_none(mlflow: StandIn, versions: MlflowVersions) -> None:
    mlflow.holds(held(1), aliases={})

    assert versions.aliases("toy-model") == {}


def test_resolve_takes_a_registered_version_and_none_as_the_newest(mlflow: StandIn, versions: MlflowVersions) -> None:
    mlflow.holds(held(9), held(10), aliases={})

    assert versions.resolve("toy-model", "9") == "9"
    assert versions.resolve("toy-model", None) == "10"


@pytest.mark.parametrize("version", ["11", "../../x", "", "9 ", "latest"])
def test_resolve_refuses_other_versions_and_names_the_newest(
    mlflow: StandIn, versions: MlflowVersions, version: str
) -> None:
    mlflow.holds(held(9), held(10), aliases={})

    with pytest.raises(UnknownVersion, match="the newest is 10"):
        versions.resolve("toy-model", version)


@pytest.mark.parametrize("version", [None, "1"])
def test_resolve_refuses_when_nothing_is_registered(
    mlflow: StandIn, versions: MlflowVersions, version: str | None
) -> None:
    mlflow.holds(aliases={})

    with pytest.raises(UnknownVersion):
        versions.resolve("toy-model", version)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (503, b"starting"), (401, b"{}"), (403, b"Invalid Host header"), (302, b""), (200, b"<html>other")],
)
def test_answers_that_are_not_the_registrys_are_unavailable(
    mlflow: StandIn, versions: MlflowVersions, status: int, body: bytes
) -> None:
    mlflow.answers = {SEARCH: (status, body), MODEL: (status, body)}

    for ask in (versions.versions, versions.aliases):
        with pytest.raises(RegistryUnavailable) as refused:
            ask("toy-model")
        assert refused.value.next


def test_a_registry_that_is_down_is_unavailable() -> None:
    with pytest.raises(RegistryUnavailable):
        MlflowVersions(f"http://127.0.0.1:{free_port()}").versions("toy-model")


def test_a_registry_that_hangs_is_unavailable_within_the_time_limit(mlflow: StandIn) -> None:
    mlflow.holds(held(1), aliases={})
    mlflow.delay_s = 2.0

    with pytest.raises(RegistryUnavailable, match="Timeout"):
        MlflowVersions(mlflow.url, timeout_s=0.2).versions("toy-model")


def test_a_guarded_server_is_asked_with_the_login(mlflow: StandIn) -> None:
    mlflow.holds(held(1), aliases={})
    MlflowVersions(mlflow.url, login=("reader", "secret")).versions("toy-model")
    assert mlflow.logins == ["Basic cmVhZGVyOnNlY3JldA=="] * 2
