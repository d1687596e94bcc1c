"""Requests made from the description of the API: none is answered by a failure, and a stranger's do nothing."""

import threading
from collections.abc import Iterator

import pytest
import uvicorn

from pipelines.api.server import server_config
from tests.support.servers.servers import free_port
from tests.support.world.api import TOKENS, Api, description, wait_for_people
from tests.support.world.generated import send_generated
from tests.support.world.supervisors import eventually

# There are many routes, and each example is a request.
EXAMPLES = 4


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    """Serve the API for real; streams end after their first event."""
    wait_for_people(api.records)
    api.app.state.slipway.feed.end()
    port = free_port()
    server = uvicorn.Server(server_config(api.app, host="127.0.0.1", port=port))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, bool, 20)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


def test_no_generated_request_makes_the_api_fail(api: Api, url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKENS['alice']}"}
    assert send_generated(description(), url, headers, examples=EXAMPLES) == []
    assert api.get("status")["model"]


def test_no_generated_request_of_a_stranger_does_anything(api: Api, url: str) -> None:
    before = list(api.records.audit_trail())
    assert send_generated(description(), url, {"Authorization": "Bearer x"}, examples=1) == []
    assert list(api.records.audit_trail()) == before
