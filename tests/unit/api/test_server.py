"""An API and a client of two installations: neither does anything for the other."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.app import create_app
from pipelines.api.client import ApiClient
from pipelines.api.server import OwnClients
from pipelines.api.state import ApiState
from pipelines.errors import UsageError
from pipelines.settings.installation import HEADER, InstallationRecord
from pipelines.settings.settings import Settings
from tests.support.servers.servers import free_port
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.records import MODEL
from tests.support.world.supervisors import eventually

OURS, THEIRS = "a" * 32, "b" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Serve the installation OURS, and yield the settings of a home that reaches it."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    records = SqlRecords(f"sqlite:///{tmp_path / 'slipway.db'}", FakeCheckpoints())
    app = create_app(ApiState(records, FakeCheckpoints(), FakeVersions("1"), MODEL, {"alice": "secret"}))
    config = uvicorn.Config(OwnClients(app, OURS), port=port, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
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
        url, body = f"{settings.api_url}/api/v1/rollbacks", {"environment": "production"}
        return httpx.post(url, json=body, headers=headers, trust_env=False)

    refused = ask(THEIRS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "usage")
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
