"""What an engine must be for an installation; the engine is a server that describes itself as told."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.engine_check import check_disk, check_engine, check_ports
from pipelines.errors import EngineUnavailable, PortTaken, TargetUnavailable
from tests.support.servers.servers import free_port

MANAGER = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "n" * 25}


class FakeEngine:
    def __init__(self) -> None:
        self.version = "20.10.24"
        self.swarm: dict[str, Any] = dict(MANAGER)
        self.containers: list[dict[str, Any]] = []
        self.url = ""

    def answer(self, path: str) -> object:
        if path.endswith("/version"):
            return {"Version": self.version, "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        return {"Swarm": self.swarm} if path.endswith("/info") else self.containers

    def check(self) -> str:
        return check_engine(DockerEngine(self.url), self.url).id

    def check_ports(self, ports: dict[str, int]) -> None:
        check_ports(DockerEngine(self.url), ports, address="127.0.0.1", prefix="ours")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(fake.answer(self.path.partition("?")[0])).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"tcp://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


def test_a_manager_is_taken_and_its_node_told(engine: FakeEngine) -> None:
    assert engine.check() == "n" * 25


def test_a_full_disk_is_refused_and_one_that_is_not_seen_from_here_is_not(tmp_path: Path) -> None:
    # A file system that has no room by its nature.
    with pytest.raises(TargetUnavailable, match=r"nearly full: 0\.0 of 1\.0 GB free in /proc") as refused:
        check_disk(Path("/proc"))
    assert "docker system df" in refused.value.next
    check_disk(tmp_path)
    check_disk(tmp_path / "on another machine")


def test_no_engine_is_refused_with_what_to_do() -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(EngineUnavailable, match=f"no container engine answers at {url}") as refused:
        check_engine(DockerEngine(url), url)
    assert "make offline" in refused.value.next


@pytest.mark.parametrize("version", ["19.03.15", "1.13.1", "odd"])
def test_an_old_engine_is_refused(engine: FakeEngine, version: str) -> None:
    engine.version = version
    with pytest.raises(EngineUnavailable, match=f"the engine is {version}, which is older than 20.10"):
        engine.check()


@pytest.mark.parametrize(
    ("swarm", "why", "next"),
    [
        ({"LocalNodeState": "inactive"}, r"in no swarm \(inactive\)", "docker swarm init"),
        ({"LocalNodeState": "locked"}, r"in no swarm \(locked\)", "docker swarm init"),
        ({"ControlAvailable": False}, "a worker of its swarm", "a manager's engine"),
    ],
)
def test_an_engine_that_manages_no_swarm_is_refused(
    engine: FakeEngine, swarm: dict[str, Any], why: str, next: str
) -> None:
    engine.swarm.update(swarm)
    with pytest.raises(TargetUnavailable, match=why) as refused:
        engine.check()
    assert next in refused.value.next


def test_a_free_port_and_one_of_our_own_edge_are_good(engine: FakeEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        engine.containers = [{"Names": ["/ours-edge"], "Ports": [{"PublicPort": port}, {"PrivatePort": 1}]}]
        engine.check_ports({"staging": port, "api": free_port()})


def test_a_taken_port_is_refused_with_its_holder(engine: FakeEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} of staging is taken by process {os.getpid()} \(") as refused:
            engine.check_ports({"staging": port})
        assert "SLIPWAY_PORT_STAGING" in refused.value.next
        engine.containers = [{"Names": ["/other-edge"], "Ports": [{"PublicPort": port}]}]
        with pytest.raises(PortTaken, match="by container other-edge"):
            engine.check_ports({"staging": port})
