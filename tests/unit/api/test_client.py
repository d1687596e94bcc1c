import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.containers.certificates import issue, make_authority
from pipelines.api.client import ApiClient, executor_silence
from pipelines.domain.release import Environment
from pipelines.errors import ApiUnavailable, NotAllowed, Rejected, UsageError
from pipelines.operator.health import read_health
from pipelines.settings.settings import Settings

NAME = "localhost"
NOON = "2030-01-01T12:00:00+00:00"


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every GET with its path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of an installation whose API and staging are one server with a certificate of an own authority."""
    now = datetime.now(UTC)
    authority = make_authority(NAME, now)
    made = issue(authority, NAME, now)
    (tmp_path / "ca.pem").write_text(authority.certificate)
    (tmp_path / "other.pem").write_text(make_authority(NAME, now).certificate)
    (tmp_path / "shown.pem").write_text(made.certificate + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "shown.pem")
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        port = str(server.server_address[1])
        yield {
            "TARGET": "docker",
            "SLIPWAY_EXTERNAL_URL": f"https://{NAME}",
            "SLIPWAY_TLS_CA": str(tmp_path / "ca.pem"),
            "SLIPWAY_PORT_API": port,
        }
        server.shutdown()
        thread.join()


def test_an_installation_behind_tls_is_asked_by_its_name_and_believed_by_its_authority(
    behind_tls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    settings = Settings.from_environ(behind_tls)
    assert ApiClient(settings, "token").get("/status") == {"path": "/api/v1/status?model=churn-model"}
    staging = {"SLIPWAY_PORT_STAGING": behind_tls["SLIPWAY_PORT_API"], "SLIPWAY_PORT_API": "1"}
    assert read_health(Settings.from_environ({**behind_tls, **staging}), Environment.STAGING) == {"path": "/health"}


def test_who_shows_another_authoritys_certificate_is_not_believed(behind_tls: dict[str, str], tmp_path: Path) -> None:
    other = Settings.from_environ({**behind_tls, "SLIPWAY_TLS_CA": str(tmp_path / "other.pem")})
    with pytest.raises(ApiUnavailable, match="certificate verify failed"):
        ApiClient(other, "token").get("/status")


def test_an_authority_that_is_not_there_yet_is_named(behind_tls: dict[str, str], tmp_path: Path) -> None:
    missing = Settings.from_environ({**behind_tls, "SLIPWAY_TLS_CA": str(tmp_path / "none.pem")})
    with pytest.raises(UsageError, match=r"none\.pem can't be used"):
        ApiClient(missing, "token")


@pytest.mark.parametrize(
    ("silent_s", "says"),
    [(0, ""), (9, ""), (11, "was last seen at"), (86_400, "was last seen at"), (None, "has never been there")],
)
def test_an_executor_that_does_not_show_itself_is_told_with_what_to_do(silent_s: float | None, says: str) -> None:
    seen_at = None if silent_s is None else (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat()
    # One that says how long ago that is, on a machine with another clock, and one of before that does not.
    for sign in ({"heartbeat_at": seen_at and NOON, "age_s": silent_s}, {"heartbeat_at": seen_at}):
        told = executor_silence({"executor": sign})
        assert bool(told) is bool(says)
        assert says in told
        assert told == "" or '"make up" starts it' in told


class Stream(http.server.BaseHTTPRequestHandler):
    """Answers each GET with the next of the server's scripts: a refusal, or messages and then a broken connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers["Last-Event-ID"]))
        script = server.scripts.pop(0) if server.scripts else (503, UNAVAILABLE)
        self.close_connection = True
        if isinstance(script, tuple):
            status, error = script
            body = json.dumps({"error": error}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in script:
            self.wfile.write(f"{len(message):x}\r\n{message}\r\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


UNAVAILABLE = {"code": "database_unavailable", "message": "no database", "next": "wait"}
BUG = {"code": "internal", "message": "a bug", "next": ""}
REJECTED = {"code": "rejected", "message": "rejected by bob: slow", "next": ""}


def state(name: str, *steps: str, state: str = "running", **more: Any) -> str:
    work = {"state": state, "steps": [{"step": step, "message": ""} for step in steps], **more}
    return f"id: {name}\ndata: {json.dumps(work)}\n\n"


def sign(seen_at: str | None) -> str:
    return f"event: executor\ndata: {json.dumps({'heartbeat_at': seen_at})}\n\n"


@contextmanager
def streaming(*scripts: Any, patience_s: float = 30.0) -> Iterator[tuple[ApiClient, Any]]:
    """Serve scripts, one a request, and give a client of that."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        running: Any = server
        running.asked, running.scripts = [], list(scripts)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        settings = Settings.from_environ({"SLIPWAY_PORT_API": str(server.server_address[1])})
        try:
            yield ApiClient(settings, "token", patience_s=patience_s), running
        finally:
            server.shutdown()
            thread.join()


def waited(
    client: ApiClient, until: Callable[[dict[str, Any]], bool] | None = None
) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    return client.wait("/promotions/p-1", told.append, until=until), told


def test_a_wait_is_one_request_that_tells_each_step_once() -> None:
    script = [state("a", "K0"), state("b", "K0", "K1"), state("c", "K0", "K1", state="done")]
    with streaming(script) as (client, server):
        work, told = waited(client)

    assert (work["state"], told) == ("done", ["K0", "K1"])
    assert [path.partition("?")[0] for path, _ in server.asked] == ["/api/v1/promotions/p-1/events"]


def test_a_broken_stream_goes_on_after_the_last_state_that_was_seen() -> None:
    scripts = [state("a", "K0")], (503, UNAVAILABLE), (500, BUG), [state("b", "K0", "K1", state="done")]
    with streaming(*scripts) as (client, server):
        work, told = waited(client)

    assert (work["state"], told) == ("done", ["K0", "K1"])
    assert [last_id for _, last_id in server.asked] == ["", "a", "a", "a"]


def test_after_a_while_without_an_api_the_wait_ends_and_says_that_the_work_goes_on() -> None:
    with (
        streaming([state("a", "K0")], patience_s=0.5) as (client, server),
        pytest.raises(ApiUnavailable) as refused,
    ):
        waited(client)

    assert len(server.asked) > 2
    assert refused.value.exit_code == 4
    assert "no database; asked for 0.5 s" in refused.value.message
    assert "the work goes on" in refused.value.next
    assert "nothing was changed" not in str(refused.value) + refused.value.next


def test_what_is_refused_is_not_asked_again() -> None:
    refusal = {"code": "not_allowed", "message": "no valid token", "next": "send one"}
    with streaming((401, refusal)) as (client, server), pytest.raises(NotAllowed):
        waited(client)

    assert len(server.asked) == 1


def test_stopped_work_raises_its_own_refusal() -> None:
    with streaming([state("a", state="stopped", error=REJECTED)]) as (client, _), pytest.raises(Rejected, match="slow"):
        waited(client)


def test_a_wait_ends_early_where_it_was_asked_to() -> None:
    script = [state("a"), state("b", "K0", state="waiting"), state("c", state="done")]
    with streaming(script) as (client, _):
        work, told = waited(client, until=lambda work: work["state"] == "waiting")

    assert (work["state"], told) == ("waiting", ["K0"])


def test_a_silent_executor_is_told_once_until_it_shows_itself() -> None:
    now = datetime.now(UTC).isoformat()
    script = [sign(None), sign(None), sign(now), sign(None), state("a", state="done")]
    with streaming(script) as (client, _):
        _, told = waited(client)

    assert [line.split(":")[0] for line in told] == ["the executor has never been there"] * 2
    assert told[0].endswith("what was asked for goes on")


def test_what_is_followed_is_told_with_the_executors_last_sign_until_its_stream_ends() -> None:
    with streaming([state("a", id="c-1"), sign("then"), state("b", "K0", id="c-1")]) as (client, server):
        told = list(client.follow("/maintenance/c-1"))

    first = {"state": "running", "steps": [], "id": "c-1"}
    last = {**first, "steps": [{"step": "K0", "message": ""}]}
    # A sign is of its moment: it is not told again with what comes later.
    assert told == [first, first | {"executor": {"heartbeat_at": "then"}}, last]
    assert [path.partition("?")[0] for path, _ in server.asked] == ["/api/v1/maintenance/c-1/events"]
