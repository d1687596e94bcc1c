"""Who sends a byte now and then, or without end, holds nobody for longer than an exchange may take."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import pytest

from pipelines.adapters.http_probe import HttpProbe
from pipelines.adapters.local.supervisor.replica import get_ready
from pipelines.adapters.mlflow.answers import Answer
from pipelines.adapters.mlflow.rest import TrackingServer
from pipelines.adapters.mlflow.store import ArtifactStore, TransferBounds
from pipelines.adapters.swarm.replica_ask import ask_directly
from pipelines.errors import DeployFailed, NotServable, RegistryUnavailable

LIMIT_S = 0.3
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
BODY = b'{"files": []}'


@contextmanager
def answering(listener: socket.socket, *parts: bytes, every_s: float = 0) -> Iterator[None]:
    """Answer each connection with parts, one after the other, until it is closed from either side."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            for part in parts:
                if over.wait(every_s):
                    return
                connection.sendall(part)

    def serve() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=answer, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    threads = [threading.Thread(target=serve)]
    listener.listen()
    threads[0].start()
    try:
        yield
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join()


@pytest.fixture(params=["head", "body"])
def trickle(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of who sends a sound answer so slowly, and so steadily, that no pause is long."""
    head, body = HEAD + b"\r\n", BODY
    slow = [b"X-%d: 1\r\n" % number for number in range(60)] if request.param == "head" else [b" "] * 60
    parts = [HEAD, *slow, b"\r\n" + body] if request.param == "head" else [head, *slow, body]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with answering(listener, *parts, every_s=LIMIT_S / 5):
            yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_replica_that_trickles_is_not_waited_for(trickle: str) -> None:
    assert ask_directly(trickle, LIMIT_S) is None


def test_a_service_that_trickles_is_not_waited_for(trickle: str) -> None:
    probe = HttpProbe(timeout_s=LIMIT_S)
    with pytest.raises(DeployFailed, match=r"not all had come after 0\.3 s"):
        probe.get(f"http://{trickle}/ready")
    with pytest.raises(DeployFailed, match=r"not all had come after 0\.4 s"):
        probe.post(f"http://{trickle}/predict", b"{}", {}, timeout_s=0.4)


def test_a_registry_that_trickles_is_not_waited_for(trickle: str) -> None:
    server = TrackingServer(f"http://{trickle}", login=None, timeout_s=LIMIT_S)
    with pytest.raises(RegistryUnavailable, match=r"not all had come after 0\.3 s"):
        server.get("/runs/get", Answer, "run 1")


@pytest.mark.parametrize(
    "ask",
    [lambda store: store.names("/1/a"), lambda store: store.fetch("/1/a", ["b"], Path("unused"))],
    ids=["names", "fetch"],
)
def test_a_store_that_trickles_is_not_waited_for(
    trickle: str, ask: Callable[[ArtifactStore], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore(f"http://{trickle}", login=None, timeout_s=5, bounds=TransferBounds(seconds=LIMIT_S))
    with pytest.raises(NotServable, match=r"did not arrive within 0\.3 s"):
        ask(store)


def test_a_store_that_trickles_its_answer_to_a_file_is_not_waited_for(
    trickle: str, request: pytest.FixtureRequest
) -> None:
    store = ArtifactStore(f"http://{trickle}", login=None, timeout_s=5, bounds=TransferBounds(seconds=LIMIT_S))
    # What it says beside its status is not read at all, so nothing of it is late.
    of_the_head = request.node.callspec.params["trickle"] == "head"
    with pytest.raises(httpx.ReadTimeout) if of_the_head else nullcontext():
        store.put("/1/a", b"{}")


def test_what_a_replica_says_of_itself_is_bounded(tmp_path: Path) -> None:
    def says(*parts: bytes) -> object:
        with socket.socket(socket.AF_UNIX) as listener:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sock"
            listener.bind(str(path))
            with answering(listener, *parts):
                return asyncio.run(get_ready(path))

    assert says(HEAD + b"\r\n", BODY) is not None
    with pytest.raises(ValueError, match="more than 65,536 bytes"):
        says(HEAD + b"\r\n", *[b" " * 1_000_000] * 5, BODY)
    with pytest.raises(asyncio.LimitOverrunError):
        says(b"X" * 1_000_000)
    for head in (b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 many\r\n\r\n"):
        with pytest.raises(ValueError):
            says(head, BODY)
    with pytest.raises(ValueError):
        says(HEAD + b"\r\n", b"[" * 60_000)
