"""An API and a client of two installations: neither does anything for the other."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from pipelines.api.app import create_app
from pipelines.api.client import ApiClient
from pipelines.api.connection import MOST
from pipelines.api.server import MAX_HEAD_BYTES, OwnClients, server_config
from pipelines.api.state import ApiState
from pipelines.errors import UsageError
from pipelines.settings.installation import HEADER, InstallationRecord
from pipelines.settings.settings import Settings
from tests.support.servers.databases import sqlite_records
from tests.support.servers.servers import free_port
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.strange_http import REFUSED, exchange
from tests.support.world.supervisors import eventually

MODEL = "churn-model"
OURS, THEIRS = "a" * 32, "b" * 32
LAST = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Serve the installation OURS, and yield the settings of a home that reaches it."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    records = sqlite_records(tmp_path, FakeCheckpoints())
    app = create_app(ApiState(records, FakeCheckpoints(), FakeVersions("1"), MODEL, {"alice": "secret"}))
    server = uvicorn.Server(server_config(OwnClients(app, OURS), host="127.0.0.1", port=port))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, bool, 20)
    yield Settings.from_environ({"SLIPWAY_HOME": str(home), "SLIPWAY_PORT_API": str(port)})
    server.should_exit = True
    thread.join(20)


def test_every_answer_names_the_installation(settings: Settings) -> None:
    for path, status in (("/health", 200), ("/api/v1/status", 401), ("/nowhere", 404)):
        answer = httpx.get(f"{settings.api_url}{path}", trust_env=False)
        assert (answer.status_code, answer.headers[HEADER]) == (status, OURS)


def test_who_means_another_installation_is_refused_before_anything_is_done(settings: Settings) -> None:
    def ask(meant: str) -> httpx.Response:
        headers = {"Authorization": "Bearer secret", HEADER: meant}
        url, body = f"{settings.api_url}/api/v1/rollbacks", {"model": MODEL, "environment": "production"}
        return httpx.post(url, json=body, headers=headers, trust_env=False)

    refused = ask(THEIRS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "other_installation")
    assert OURS in refused.json()["error"]["message"] and THEIRS in refused.json()["error"]["message"]
    # The first that was ever asked for.
    assert (ask(OURS).status_code, ask(OURS).json()["id"]) == (202, "b-2")


def test_a_client_takes_its_own_installation_alone(settings: Settings) -> None:
    assert "unfinished" in ApiClient(settings, "secret").get("/status")
    InstallationRecord(id=OURS, settings={}).write(settings.home)
    assert "unfinished" in ApiClient(settings, "secret").get("/status")
    InstallationRecord(id=THEIRS, settings={}).write(settings.home)
    for token in ("secret", "a token of theirs"):
        with pytest.raises(UsageError, match=f"{OURS}.*{THEIRS}") as refused:
            ApiClient(settings, token).get("/status")
        assert refused.value.exit_code == 2


def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(settings: Settings) -> None:
    body = b'{"model": "churn-model", "environment": "production"}'
    head = b"POST /api/v1/rollbacks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: %d\r\n"
    offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head = head % len(body) + b"Content-Type: application/json\r\n" + offer + b"\r\n"
    answer = exchange(settings.api_port, head + body)
    assert answer.startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("head", [b"X-Long: " + b"x" * 20 * MAX_HEAD_BYTES, b"Content-Length: " + b"9" * 5000])
def test_a_head_without_bounds_is_refused(settings: Settings, head: bytes) -> None:
    answer = exchange(settings.api_port, b"GET /health HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
    assert answer[:13] in (b"HTTP/1.1 400 ", b"")


def test_head_is_answered_without_a_body(settings: Settings) -> None:
    answer = exchange(settings.api_port, b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.partition(b"\r\n\r\n")[2] == b""


def test_what_may_be_read_in_two_ways_is_refused_and_the_connection_closed(settings: Settings) -> None:
    answers = {name: exchange(settings.api_port, sent) for name, sent in REFUSED.items()}
    assert {name: answer[:13] for name, answer in answers.items()} == dict.fromkeys(REFUSED, b"HTTP/1.1 400 ")
    assert {answer.count(b"HTTP/1.1 ") for answer in answers.values()} == {1}


def test_who_is_refused_reads_it_though_the_body_is_still_to_come(settings: Settings) -> None:
    # More than fits between the two, so that the answer comes while the client sends.
    body = b" " * (8 << 20)
    head = b"POST /api/v1/rollbacks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(5):
        assert exchange(settings.api_port, head + body).startswith(b"HTTP/1.1 401 ")


def test_requests_in_one_piece_are_answered_one_by_one(settings: Settings) -> None:
    get = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    last = get.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert exchange(settings.api_port, get * 20 + last).count(b"HTTP/1.1 200 ") == 21


def test_a_slash_too_many_is_no_way_to_another_host(settings: Settings) -> None:
    answer = exchange(
        settings.api_port, b"GET /api/v1/status/ HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404 ") and b"elsewhere" not in answer


def test_who_lets_the_api_wait_is_cut_and_shuts_nobody_out(settings: Settings) -> None:
    halves = (
        b"",
        b"GET /health HTTP/1.1\r\nX-",
        b"POST /api/v1/rollbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    )
    with contextlib.ExitStack() as held:
        for number in range(MOST + 50):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", settings.api_port), timeout=20))
            connection.sendall(halves[number % 3])
        assert httpx.get(f"{settings.api_url}/health", trust_env=False).status_code == 200
        # The last of them is still there, until it has been waited for.
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                pass


def test_who_takes_no_answer_shuts_nobody_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.api.connection.MOST", 20)
    monkeypatch.setattr("pipelines.api.connection.PATIENCE_S", 1000)
    page = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as held:
        for _ in range(40):
            reader = held.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(20)
            reader.connect(("127.0.0.1", settings.api_port))
            # More than the system takes for a client.
            reader.sendall(page * 5)
        eventually(lambda: exchange(settings.api_port, LAST)[:13], lambda answer: answer == b"HTTP/1.1 200 ", 20)
