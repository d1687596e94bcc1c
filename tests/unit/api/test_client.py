import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.adapters.installation.certificates import issue, make_authority
from pipelines.api.client import ApiClient, executor_silence
from pipelines.domain.release import Environment
from pipelines.errors import ApiUnavailable, UsageError
from pipelines.operator.health import read_health
from pipelines.settings.settings import Settings

NAME = "localhost"


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
    told = executor_silence({"executor": {"heartbeat_at": seen_at}})
    assert bool(told) is bool(says)
    assert says in told
    assert told == "" or '"make up" starts it' in told
