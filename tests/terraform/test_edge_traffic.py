"""What the real HAProxy, with the configuration as Terraform renders it, lets through to replicas and API.

It is the configuration for every address, but for the certificate, on ports of this machine's own.
"""

import contextlib
import re
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import httpx
import pytest

from tests.support.containers.engine import FIRST_BUILD_S
from tests.support.world.strange_http import REFUSED, exchange
from tests.support.world.supervisors import eventually, free_port
from tests.terraform.conftest import Planned
from tests.terraform.test_edge_configuration import EXPOSED, MODELS, VARIABLES

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)
TRIAL_REQUESTS = 64
# HAProxy makes one of two hosts that are the same, before any rule sees them.
MERGED = "the same host twice"
# A quarter of production's connections.
MOST_OF_A_SOURCE = 500
# Of two models each has half of staging's connections.
MOST_OF_A_MODEL = 500


@dataclass
class Upstream:
    """A service behind the edge that notes the headers of what it is asked; `hang` holds its answers back."""

    hang: threading.Event | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.removeprefix("http://x")
                if path.startswith(("/strange", "/anything", "/way")):
                    upstream.paths.append(path)
                    assert len(self.headers) == len(set(map(str.lower, self.headers)))
                    upstream.asked.append({name.lower(): value for name, value in self.headers.items()})
                    if upstream.hang:
                        upstream.hang.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                if self.hang:
                    self.hang.set()
                server.shutdown()
                thread.join()


@dataclass
class Edge:
    """The edge's ports on this machine by their front ends, and what is behind it."""

    ports: dict[str, int]
    live: Upstream
    trial: Upstream
    further: Upstream


@pytest.fixture(scope="module")
def edge(
    planned: Planned, engine: docker.DockerClient, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    live, trial, further = Upstream(), Upstream(hang=threading.Event()), Upstream(hang=threading.Event())
    assert further.hang
    further.hang.set()
    # The container's user may enter it.
    place = tmp_path_factory.mktemp("edge") / "etc"
    place.mkdir()
    config = planned("modules/edge", **VARIABLES, **EXPOSED, **MODELS)["docker_container.config"]["upload"][0][
        "content"
    ]
    ports: dict[str, int] = {}

    def here(front: re.Match[str]) -> str:
        ports[front[1]] = free_port()
        return f"frontend {front[1]} from front\n  bind 127.0.0.1:{ports[front[1]]} "

    with live.serving() as live_port, trial.serving() as trial_port, further.serving() as further_port:
        config = config.replace("ssl crt /run/secrets/tls.pem ssl-min-ver TLSv1.2 alpn http/1.1", "proto h1")
        config = re.sub(r"frontend (\S+) from front\n  bind :\d+ ", here, config)
        # Those of further models, in front ends for load runs.
        config = re.sub(r"\n  bind :\d+ ", lambda _: f"\n  bind 127.0.0.1:{free_port()} ", config)
        config = config.replace("bind 127.0.0.1:8404", f"bind 127.0.0.1:{free_port()}")
        config = re.sub(
            r"server-template live \d+ tasks\.slipway-\w+-key-1\S+", f"server live1 127.0.0.1:{further_port}", config
        )
        # A candidate in production with a tenth of the traffic, as a canary has it.
        config = re.sub(
            r"server-template trial \d+ tasks\.slipway-production-trial:8000 weight 0",
            f"server trial1 127.0.0.1:{trial_port} weight 10",
            config,
        )
        config = re.sub(r"server-template (\S+) \d+ \S+", rf"server \g<1>1 127.0.0.1:{live_port}", config)
        config = config.replace("resolvers engine resolve-prefer ipv4", "")
        (place / "haproxy.cfg").write_text(config)
        started = engine.containers.run(
            images["edge"],
            detach=True,
            name=f"edge-of-tests-{ports['production']}",
            network_mode="host",
            tmpfs={"/run/haproxy": "mode=0700,uid=10001,gid=10001"},
            volumes={str(place): {"bind": "/etc/haproxy", "mode": "ro"}},
        )
        try:
            eventually(lambda: _status(ports["production"]), lambda status: status == 200, 60)
            yield Edge(ports, live, trial, further)
        finally:
            started.remove(force=True)


def _status(port: int, path: str = "/ready") -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=20, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_what_a_client_says_of_its_way_is_not_believed(edge: Edge) -> None:
    forged = {
        name: "6.6.6.6"
        for name in ("X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-server", "X-Real-IP", "Forwarded")
    }
    edge.live.asked.clear()
    url = f"http://127.0.0.1:{edge.ports['api']}/way"
    answer = httpx.get(url, headers={**forged, "X-Forwarded-Proto": "http"}, trust_env=False)
    assert answer.status_code == 200
    [asked] = edge.live.asked
    assert "6.6.6.6" not in asked.values()
    assert (asked["x-forwarded-for"], asked["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert asked["x-forwarded-host"] == asked["host"] == f"127.0.0.1:{edge.ports['api']}"


@pytest.mark.parametrize("front", ["production", "api"])
def test_what_may_be_read_in_two_ways_does_not_get_through(front: str, edge: Edge) -> None:
    edge.live.asked.clear()
    sent = {name: each.replace(b" /health", b" /strange") for name, each in REFUSED.items() if name != MERGED}
    with ThreadPoolExecutor(len(sent)) as threads:
        answers = dict(zip(sent, threads.map(partial(last_words, edge.ports[front]), sent.values()), strict=True))
    let_in = {name: answer[:60] for name, answer in answers.items() if answer[:10] == b"HTTP/1.1 2"}
    assert (let_in, edge.live.asked) == ({}, [])
    assert {answer[:12] for answer in answers.values()} <= {b"HTTP/1.1 400", b"HTTP/1.1 501", b"HTTP/1.1 505", b""}


def test_a_host_that_is_named_twice_is_named_once_to_who_is_behind(edge: Edge) -> None:
    edge.live.asked.clear()
    sent = REFUSED[MERGED].replace(b" /health", b" /strange").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange(edge.ports["production"], sent).startswith(b"HTTP/1.1 200")
    [asked] = edge.live.asked
    assert asked["host"] == asked["x-forwarded-host"] == "a"


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/way", "live /way"),
        ("/models/churn-model/way?x=1&y=/models/a/", "live /way?x=1&y=/models/a/"),
        ("/models/Tenure.Model_2/way?x=1", "further /way?x=1"),
        ("/models/Tenure.Model_2/way/models/churn-model/", "further /way/models/churn-model/"),
        ("http://x/models/Tenure.Model_2/way", "further /way"),
        ("/models/Tenure.Model_2", "200"),
        ("/models/tenure.model_2/way", "404"),
        ("/models/Tenure.Model_22/way", "404"),
        ("/models//way", "404"),
        ("/models/", "404"),
    ],
)
def test_a_request_gets_to_the_model_that_its_path_names(path: str, seen: str, edge: Edge) -> None:
    for upstream in (edge.live, edge.trial, edge.further):
        upstream.paths.clear()
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answer = last_words(edge.ports["staging"], head)
    told = [f"{name} {path}" for name in ("live", "trial", "further") for path in getattr(edge, name).paths]
    found = [each for each in told if "/way" in each]
    assert (found or [answer[9:12].decode()]) == [seen]
    if seen == "404":
        assert b'{"error":{"code":"unknown_model"}}' in answer


@pytest.mark.parametrize("path", ["/runtime", "/%72untime", "/models/Tenure.Model_2/runtime", "/models/x/%72untime?a"])
def test_what_replicas_run_with_is_not_told_to_clients(path: str, edge: Edge) -> None:
    for upstream in (edge.live, edge.trial, edge.further):
        upstream.paths.clear()
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert last_words(edge.ports["staging"], head)[9:12] == b"404"
    assert not [
        each for upstream in (edge.live, edge.trial, edge.further) for each in upstream.paths if "ntime" in each
    ]


def test_a_model_that_hangs_leaves_the_others_their_part_of_a_front_end(edge: Edge) -> None:
    port = edge.ports["staging"]
    asking = b"GET /models/Tenure.Model_2/anything HTTP/1.1\r\nHost: x\r\n\r\n"
    edge.further.paths.clear()
    assert edge.further.hang
    edge.further.hang.clear()
    try:
        with contextlib.ExitStack() as held:
            clients = [
                held.enter_context(connected(port, f"127.0.4.{number % 8}")) for number in range(MOST_OF_A_MODEL + 20)
            ]
            for client in clients:
                client.sendall(asking)
            refused = eventually(lambda: sum(_has_answer(client) for client in clients), lambda count: count >= 20)
            assert refused == 20
            eventually(lambda: len(edge.further.paths), lambda count: count == MOST_OF_A_MODEL)
            assert {_status(port, "/anything") for _ in range(50)} == {200}
            assert _status(port, "/models/Tenure.Model_2/anything") == 503
    finally:
        edge.further.hang.set()


def test_a_candidate_that_hangs_under_load_leaves_production_answering(edge: Edge) -> None:
    port = edge.ports["production"]
    with contextlib.ExitStack() as held:
        # Far more than its share would be by weight.
        for number in range(12 * TRIAL_REQUESTS):
            client = held.enter_context(connected(port, f"127.0.1.{number % 8}"))
            client.sendall(b"GET /anything HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: len(edge.trial.asked), lambda count: count == TRIAL_REQUESTS)
        assert {_status(port, "/anything") for _ in range(50)} == {200}
        assert len(edge.trial.asked) == TRIAL_REQUESTS


def test_one_source_takes_a_quarter_of_a_front_end_and_no_more(edge: Edge) -> None:
    port = edge.ports["production"]
    with contextlib.ExitStack() as held:
        mine: list[socket.socket] = []
        for _ in range(MOST_OF_A_SOURCE + 20):
            # One too many is reset while it connects, while it asks, or before an answer.
            with contextlib.suppress(ConnectionError):
                mine.append(held.enter_context(connected(port, "127.0.2.1")))
                mine[-1].sendall(b"GET /anything HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sum(_is_served(client) for client in mine) == MOST_OF_A_SOURCE
        assert _status(port, "/anything") == 200
        assert _status(edge.ports["staging"], "/anything") == 200


def last_words(port: int, sent: bytes) -> bytes:
    """Send bytes, and return what comes until the connection ends, or says that nothing more is read of it."""
    received = b""
    with connected(port, "127.0.3.1") as client, contextlib.suppress(ConnectionError):
        client.sendall(sent)
        while not (received.endswith(b"}") and b"\r\nconnection: close\r\n" in received):
            if not (piece := client.recv(65_536)):
                break
            received += piece
    return received


def connected(port: int, source: str) -> socket.socket:
    """Connect from one of this machine's own addresses."""
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def _has_answer(client: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(client, select.POLLIN)
    return bool(waiting.poll(0))


def _is_served(client: socket.socket) -> bool:
    try:
        return client.recv(12) == b"HTTP/1.1 200"
    except ConnectionError:
        return False
