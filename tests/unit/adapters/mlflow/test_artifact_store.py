"""Downloads end at their bounds while they run, whatever the server of a strange file sends."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.mlflow.store import ArtifactStore, TransferBounds, own_place
from pipelines.errors import NotServable

BOUNDS = TransferBounds(files=3, total_bytes=100_000, seconds=0.5)
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers every GET below the store by `answer`, and counts the bytes that it got rid of."""

    def __init__(self) -> None:
        self.sent = 0
        self.answer: Answer = lambda handler: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(f"http://127.0.0.1:{self._server.server_port}", login=None, timeout_s=5.0, bounds=BOUNDS)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sends(self, part: bytes, *, times: int, pause_s: float = 0.0, **headers: str) -> None:
        """Send a part again and again, or until nobody reads any more."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(part) * times))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            try:
                for _ in range(times):
                    handler.wfile.write(part)
                    self.sent += len(part)
                    time.sleep(pause_s)
            except OSError:
                handler.close_connection = True

        self.answer = answer


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_a_file_larger_than_the_bound_is_refused_while_it_comes(server: Server, tmp_path: Path) -> None:
    server.sends(b"x" * 10_000, times=10_000)
    with pytest.raises(NotServable, match="more than 100,000 bytes"):
        server.store.fetch("/1/model", ["model.onnx"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    # What the sockets hold was sent as well.
    assert server.sent < 20_000_000


def test_the_bound_holds_for_all_files_together(server: Server, tmp_path: Path) -> None:
    server.sends(b"x" * 40_000, times=1)
    with pytest.raises(NotServable, match="more than 100,000 bytes"):
        server.store.fetch("/1/model", ["a", "b", "c"], tmp_path)


def test_a_file_that_never_ends_is_refused_at_the_deadline(server: Server, tmp_path: Path) -> None:
    server.sends(b"x", times=1_000_000, pause_s=0.02)
    with pytest.raises(NotServable, match=r"did not arrive within 0\.5 s"):
        server.store.fetch("/1/model", ["model.onnx"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_files_than_the_bound_are_refused_unread(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotServable, match="holds 4 files, more than 3"):
        server.store.fetch("/1/model", ["a", "b", "c", "d"], tmp_path)


def test_a_list_of_files_that_never_ends_is_refused(server: Server) -> None:
    server.sends(b'{"files": [' + b" " * 100_000, times=1_000)
    with pytest.raises(NotServable, match="more than 1,048,576 bytes"):
        server.store.names("/1/model")


def test_what_is_sent_packed_is_kept_as_it_is(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(bytes(1_000_000))
    server.sends(packed, times=1, Content_Encoding="gzip")
    (path,) = server.store.fetch("/1/model", ["model.onnx"], tmp_path)
    assert path.read_bytes() == packed


def test_names_that_lead_elsewhere_are_not_listed(server: Server) -> None:
    named = ["model.onnx", "../../evil", "/etc/passwd", "a/b", "..", ".hidden", "a\nb", "x" * 200, "\u202egnp"]
    files = [{"path": name, "is_dir": False} for name in named] + [{"path": "folder", "is_dir": True}]
    content = json.dumps({"files": files}).encode()
    server.sends(content, times=1)
    assert server.store.names("/1/model") == {"model.onnx"}


@pytest.mark.parametrize(
    "location", ["mlflow-artifacts:/1/abc/artifacts", "mlflow-artifacts:/a b/models/m-1/artifacts/"]
)
def test_a_place_of_the_own_store_is_taken(location: str) -> None:
    assert own_place(location, "it") == location.removeprefix("mlflow-artifacts:").rstrip("/")


@pytest.mark.parametrize(
    "location",
    ["", "mlflow-artifacts:/", "mlflow-artifacts:", "mlflow-artifacts:a/b", "mlflow-artifacts://host/a", "dbfs:/a",
     "mlflow-artifacts:/a//b", "mlflow-artifacts:/./a", "mlflow-artifacts:/a/..", "mlflow-artifacts:/a#b",
     "mlflow-artifacts:/a\\b", "mlflow-artifacts:/a\nb", "file:///a", "s3://a", "/a"],
)  # fmt: skip
def test_any_other_place_is_refused_by_its_name(location: str) -> None:
    with pytest.raises(NotServable, match="it lies at"):
        own_place(location, "it")
