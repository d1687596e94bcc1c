"""Asking a replica for its readiness: a whole answer in time, or none."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines.adapters.swarm.replica_ask import ask_directly
from tests.support.world.supervisors import free_port


@contextmanager
def replica(status: int, body: bytes, *, after_s: float = 0) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(after_s)
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_is_its_status_and_its_object(status: int) -> None:
    with replica(status, b'{"pid": 7}') as address:
        answer = ask_directly(address)
    assert answer is not None
    assert (answer.status, answer.body) == (status, {"pid": 7})


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]"])
def test_what_is_not_an_object_is_no_answer(body: bytes) -> None:
    with replica(200, body) as address:
        assert ask_directly(address) is None


def test_nobody_and_somebody_too_slow_give_no_answer() -> None:
    assert ask_directly(f"127.0.0.1:{free_port()}") is None
    with replica(200, b"{}", after_s=1) as address:
        assert ask_directly(address, limit_s=0.2) is None
