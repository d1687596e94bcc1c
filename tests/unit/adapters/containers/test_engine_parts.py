"""What becomes of an installation whose engine goes away: here a server that hangs up on what it is to remove."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable

ANSWERS = {
    "version": {"ApiVersion": "1.41"},
    "services": [],
    "json": [{"Id": "c1", "Names": ["/ours-edge"], "Created": 1, "Labels": {}}],
}


@pytest.fixture
def dropping() -> Iterator[str]:
    """The URL of an engine that hangs up instead of removing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(ANSWERS[self.path.partition("?")[0].rpartition("/")[2]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            self.connection.close()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_engine_that_goes_away_while_all_is_removed_is_a_refusal_that_names_what_is_left(dropping: str) -> None:
    with pytest.raises(TargetUnavailable, match="ours-edge can't be removed") as refused:
        EngineParts(DockerEngine(dropping), "ours").remove_all()
    assert "do it again" in refused.value.next
