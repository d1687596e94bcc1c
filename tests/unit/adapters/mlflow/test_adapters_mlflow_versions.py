import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.adapters.mlflow.versions import MOST_CHARS, MOST_LISTED_CHARS, MOST_TAGS, MlflowVersions
from pipelines.errors import RegistryUnavailable, UnknownVersion
from tests.support.servers.servers import free_port

SEARCH = "/api/2.0/mlflow/model-versions/search"
VERSION = "/api/2.0/mlflow/model-versions/get"
MODEL = "/api/2.0/mlflow/registered-models/get"
ALIAS = "/api/2.0/mlflow/registered-models/alias"


class StandIn(ThreadingHTTPServer):
    """Answers of `held` as MLflow would; `answers` maps a path to other ones, and `asked` keeps the queries."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.held: list[dict[str, Any]] = []
        self.aliases: dict[str, str] = {}
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
        self.aliases = aliases
        self.held = sorted(versions, key=lambda version: -int(version["version"]))

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body."""
        if path in self.answers:
            return self.answers[path]
        if path == SEARCH:
            assert query["order_by"] == "version_number DESC"
            name, _, before = query["filter"].partition(" and version_number < ")
            assert name == "name='toy-model'"
            found = [version for version in self.held if not before or int(version["version"]) < int(before)]
            found = found[: int(query["max_results"])]
            return 200, json.dumps({"model_versions": found} if found else {}).encode()
        if path == ALIAS and query["alias"] not in self.aliases:
            return 400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias not found."}'
        asked = self.aliases[query["alias"]] if path == ALIAS else query.get("version")
        found = [version for version in self.held if version["version"] == asked]
        if path in (VERSION, ALIAS) and found:
            return 200, json.dumps({"model_version": found[0]}).encode()
        return 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.path, parse_qs(url.query)))
        self.server.logins.append(self.headers["authorization"])
        time.sleep(self.server.delay_s)
        status, body = self.server.answer(url.path, {name: value[0] for name, value in parse_qs(url.query).items()})
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
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

    assert versions.versions("toy-model") == (
        [
            {"version": "10", "run_id": "run-10", "tags": {}, "aliases": [], "cut": False},
            {"version": "9", "run_id": "run-9", "tags": {}, "aliases": ["production"], "cut": False},
            {
                "version": "2",
                "run_id": "run-2",
                "tags": {"lifecycle": "Staging"},
                "aliases": ["extra", "staging"],
                "cut": False,
            },
        ],
        False,
    )


def test_more_than_a_page_of_versions_is_listed_and_each_is_found(mlflow: StandIn, versions: MlflowVersions) -> None:
    mlflow.holds(*(held(number) for number in range(1, 1004)), aliases={})

    found, more = versions.versions("toy-model")
    assert [row["version"] for row in found] == [str(number) for number in range(1003, 3, -1)]
    assert more
    assert [row["version"] for row in versions.versions("toy-model", before=4)[0]] == ["3", "2", "1"]
    assert not versions.versions("toy-model", before=4)[1]
    assert (versions.resolve("toy-model", "1"), versions.resolve("toy-model", None)) == ("1", "1003")


def test_more_and_longer_tags_than_are_shown_are_cut_and_said_to_be(mlflow: StandIn, versions: MlflowVersions) -> None:
    many = {f"a{number:03}": "x" for number in range(200)}
    long = {"b" * 3000: "c" * 3000}
    mlflow.holds(held(3), held(2, **long), held(1, **many, lifecycle="Staging"), aliases={})

    (whole, longer, more), _ = versions.versions("toy-model")
    assert [row["cut"] for row in (whole, longer, more)] == [False, True, True]
    ((key, value),) = longer["tags"].items()
    assert (len(key), len(value), key[-3:], value[-3:]) == (MOST_CHARS, MOST_CHARS, "...", "...")
    # Nobody pushes Slipway's own out.
    assert (len(more["tags"]), more["tags"]["lifecycle"]) == (MOST_TAGS, "Staging")


def test_a_version_of_which_too_much_is_said_ends_the_listing_and_is_found(
    mlflow: StandIn, versions: MlflowVersions
) -> None:
    mlflow.holds(held(9), held(8), held(7, spam="x" * 2_000_000), held(6), held(5), aliases={})

    found, more = versions.versions("toy-model")
    assert ([row["version"] for row in found], more) == (["9", "8"], True)
    found, more = versions.versions("toy-model", before=7)
    assert ([row["version"] for row in found], more) == (["6", "5"], False)
    assert versions.resolve("toy-model", "7") == "7"
    mlflow.holds(held(7, spam="x" * 2_000_000), aliases={})
    with pytest.raises(RegistryUnavailable, match="more than 1,048,576 bytes of the newest version"):
        versions.resolve("toy-model", None)


def test_a_listing_is_bounded_as_a_whole(mlflow: StandIn, versions: MlflowVersions) -> None:
    mlflow.holds(*(held(number, spam="x" * 4000) for number in range(1, 1000)), aliases={})

    found, more = versions.versions("toy-model")
    assert more
    assert MOST_LISTED_CHARS <= 4000 * len(found) <= 2 * MOST_LISTED_CHARS


def test_of_a_model_that_says_too_much_the_environments_aliases_are_asked_for_by_themselves(
    mlflow: StandIn, versions: MlflowVersions
) -> None:
    many = {f"{number:0100}": "1" for number in range(50_000)}
    mlflow.holds(held(1), held(2, spam="x" * 5_000_000), aliases={**many, "production": "2"})

    assert versions.aliases("toy-model") == {"production": "2"}


@pytest.mark.parametrize("content", [b"<html>" + b"x" * 100_000, b'{"model_version": {"tags": ["' + b"x" * 100_000])
def test_an_alias_whose_answer_begins_with_no_version_is_not_taken_for_none(
    mlflow: StandIn, versions: MlflowVersions, content: bytes
) -> None:
    mlflow.answers[MODEL] = (200, b" " * 5_000_000)
    mlflow.answers[ALIAS] = (200, content)

    with pytest.raises(RegistryUnavailable, match="did not answer for alias staging of toy-model"):
        versions.aliases("toy-model")


def test_a_model_that_does_not_exist_yet_has_no_versions_and_no_aliases(
    mlflow: StandIn, versions: MlflowVersions
) -> None:
    mlflow.answers[SEARCH] = (200, b"{}")

    assert versions.versions("toy-model") == ([], False)
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
    [
        (500, b"{}"),
        (503, b"starting"),
        (401, b"{}"),
        (403, b"Invalid Host header"),
        (302, b""),
        (200, b"<html>other"),
        (200, b"[" * 100_000),
        (200, b'{"model_versions": [{"version": "1/../2"}], "registered_model": []}'),
        (200, b'{"model_versions": [null], "registered_model": {"aliases": {}}}'),
    ],
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
