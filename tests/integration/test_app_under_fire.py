"""A replica whose clients hang, flood, trickle and leave: everybody else is answered, and nothing is held for ever."""

import contextlib
import json
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pipelines.adapters.local.supervisor.replica import MEMORY_BYTES
from tests.support.world.bundles import make_bundle, valid_row, with_model
from tests.support.world.replicas import DEADLINE_S, ReplicaProcess, listening, release
from tests.support.world.slow_model import fill_on, hang_on
from tests.support.world.strange_http import REFUSED, exchange

ENDLESS = valid_row(income=1e30)
ROW = json.dumps(valid_row()).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LAST_ROW = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(ROW) + ROW
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path, _ = make_bundle(tmp_path_factory.mktemp("bundles"))
    content = hang_on((path / "model.onnx").read_bytes(), column="income", above=1e20)
    return release(*with_model(path, content))


@pytest.fixture(scope="module")
def replica(endless: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    with listening() as shared, ReplicaProcess(tmp_path_factory.mktemp("logs"), endless, shared) as running:
        running.until_alive()
        yield running


@pytest.fixture(scope="module")
def hungry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    path, _ = make_bundle(tmp_path_factory.mktemp("bundles"))
    content = fill_on((path / "model.onnx").read_bytes(), column="income", above=1e8)
    environ = release(*with_model(path, content))
    with listening() as shared, ReplicaProcess(tmp_path_factory.mktemp("logs"), environ, shared) as running:
        resource.prlimit(running.process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        running.until_alive()
        yield running


@contextlib.contextmanager
def connected(replica: ReplicaProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", replica.port), timeout=DEADLINE_S) as connection:
        yield connection


def end_by(path: str, environ: dict[str, str], logs: Path) -> None:
    body = ENDLESS if path == "/predict" else {"rows": [valid_row(), ENDLESS]}
    with (
        listening() as shared,
        ReplicaProcess(logs, environ, shared) as replica,
        ThreadPoolExecutor() as threads,
        httpx.Client(base_url=replica.url, timeout=DEADLINE_S, trust_env=False) as client,
    ):
        stuck = replica.until_alive().json()
        hanging = threads.submit(client.post, path, json=body)
        waiting = threads.submit(exchange, replica.port, LAST_ROW)
        answer = hanging.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")
        # Who was behind it gets an answer or the connection's end, which an edge takes to another replica.
        assert waiting.result()[:12] in (b"HTTP/1.1 504", b"HTTP/1.1 200", b"")
        after = replica.until_answer(lambda each: each.status_code == 200 and each.json()["pid"] != stuck["pid"])
        assert (stuck["restarts"], after.json()["restarts"]) == (0, 1)
        assert client.post("/predict", json=valid_row()).status_code == 200
        assert [event["requests"] for event in replica.events() if event["event"] == "stuck"] in ([1], [2])


def test_a_row_that_never_ends_is_refused_and_its_worker_replaced_and_counted(
    endless: dict[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as threads:
        ended = [threads.submit(end_by, path, endless, tmp_path) for path in ("/predict", "/predict/batch")]
        for each in ended:
            each.result()


def test_small_requests_are_answered_while_a_large_batch_is_scored(replica: ReplicaProcess) -> None:
    rows = [valid_row(income=float(number)) for number in range(60_000)]
    with (
        ThreadPoolExecutor() as threads,
        httpx.Client(base_url=replica.url, timeout=60.0, trust_env=False) as client,
    ):
        batch = threads.submit(client.post, "/predict/batch", json={"rows": rows})
        between = 0
        while not batch.done():
            for path in ("/ready", "/health"):
                assert client.get(path).status_code == 200
            assert client.post("/predict", json=valid_row()).status_code == 200
            between += not batch.done()
        answer = batch.result()
        assert (answer.status_code, len(answer.json()["predictions"])) == (200, len(rows))
        for number in (0, 77, 59_999):
            alone = client.post("/predict", json=rows[number]).json()
            assert answer.json()["predictions"][number] == {
                "prediction": alone["prediction"],
                "probability": pytest.approx(alone["probability"], abs=1e-6),
            }
    assert between > 3


def test_large_bodies_that_come_together_are_answered_or_told_when_to_come_again(replica: ReplicaProcess) -> None:
    body = b'{"rows": [' + b",".join([ROW] * 170_000) + b"]}"
    assert 13 << 20 < len(body) < 16 << 20
    headers = {"Content-Type": "application/json"}

    def post(_: int) -> tuple[int, str | None]:
        answer = httpx.post(
            f"{replica.url}/predict/batch", content=body, headers=headers, timeout=120.0, trust_env=False
        )
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(7) as threads:
        answers = list(threads.map(post, range(7)))
    assert set(answers) <= {(200, None), (503, "1")}
    assert (200, None) in answers
    assert httpx.post(f"{replica.url}/predict", json=valid_row(), trust_env=False).status_code == 200


def test_who_lets_the_service_wait_is_cut(replica: ReplicaProcess) -> None:
    begun = [
        (b"GET /health HTTP/1.1\r\nHost: ", b"HTTP/1.1 408"),
        (HEAD + b"Content-Length: 100\r\n\r\n{", b"HTTP/1.1 408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"HTTP/1.1 408"),
        (HEAD + b"Content-Length: 9999999\r\n\r\n{", b"HTTP/1.1 413"),
    ]
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda each: exchange(replica.port, each[0]), begun))
    assert [answer[:12] for answer in answers] == [expected for _, expected in begun]
    assert all(b'"code":"timeout"' in answer for answer in answers[:3])
    counted = httpx.get(f"{replica.url}/metrics", trust_env=False).text
    assert 'slipway_requests_total{route="other",status="408"} 3.0' in counted


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_what_may_be_read_in_two_ways_is_refused_and_the_connection_closed(
    sent: bytes, replica: ReplicaProcess
) -> None:
    answer = exchange(replica.port, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer and b'"code":"bad_request"' in answer


def test_an_offer_is_ignored_behind_another_request_too(replica: ReplicaProcess) -> None:
    offer = LAST_ROW.replace(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: h2c")
    assert exchange(replica.port, GET + offer + LAST_ROW).count(b"HTTP/1.1 200 ") == 3


def test_who_is_refused_reads_it_though_the_body_is_still_to_come(replica: ReplicaProcess) -> None:
    body = b" " * (2 << 20)
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(5):
        assert exchange(replica.port, head + body).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("host", [b"a b", b"user@x", b"x/y", b"[::1", b"x:y", b"<x>", b"\xe4"])
def test_a_host_that_is_none_is_refused(host: bytes, replica: ReplicaProcess) -> None:
    assert exchange(replica.port, GET.replace(b"Host: x", b"Host: " + host)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("head", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n"])
def test_a_check_without_a_host_and_an_address_as_host_are_answered(head: bytes, replica: ReplicaProcess) -> None:
    assert exchange(replica.port, b"GET /ready " + head + b"\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("around", [b"X-Trailer: " + b"x" * 65_536, b"0;" + b"x" * 65_536], ids=["trailer", "chunk"])
def test_what_stands_around_a_body_is_bounded(around: bytes, replica: ReplicaProcess) -> None:
    end = b"0\r\n" if around.startswith(b"X") else b""
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + end + around
    with connected(replica) as connection, pytest.raises(ConnectionError):
        connection.sendall(sent)
        for _ in range(1000):
            connection.sendall(b"x" * 65_536)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 3000:
        pytest.skip(f"this process may open {most} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3000, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_what_a_model_needs_more_memory_for_than_there_is_is_refused_and_the_replica_lives(
    hungry: ReplicaProcess, path: str
) -> None:
    alive = hungry.until_alive().json()
    large = valid_row(income=1e9)
    with httpx.Client(base_url=hungry.url, timeout=DEADLINE_S, trust_env=False) as client:
        refused = client.post(path, json=large if path == "/predict" else {"rows": [valid_row(), large]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert "memory" in refused.json()["error"]["message"] and refused.headers["retry-after"]
        assert client.post("/predict", json=valid_row()).status_code == 200
    assert hungry.until_alive().json() == alive


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_more_idle_and_half_sent_connections_than_files_shut_nobody_out(
    endless: dict[str, str], tmp_path: Path, many_files: None
) -> None:
    with listening() as shared, ReplicaProcess(tmp_path, endless, shared) as replica, contextlib.ExitStack() as held:
        # Before the worker is there, which inherits it.
        resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        replica.until_alive()
        halves = (b"", b"GET /health HTTP/1.1\r\nX-", HEAD + b"Content-Length: 100\r\n\r\n{")
        for number in range(1100):
            connection = held.enter_context(connected(replica))
            connection.sendall(halves[number % len(halves)])
        for _ in range(3):
            with httpx.Client(base_url=replica.url, trust_env=False) as client:
                assert client.post("/predict", json=valid_row()).status_code == 200
                assert client.get("/ready").status_code == 200


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_more_clients_that_take_no_answer_than_files_shut_nobody_out(endless: dict[str, str], tmp_path: Path) -> None:
    page = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with listening() as shared, ReplicaProcess(tmp_path, endless, shared) as replica, contextlib.ExitStack() as held:
        # So many connections at most, and as few files for what they ask for.
        resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (300, 300))
        replica.until_alive()
        for _ in range(250):
            reader = held.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(DEADLINE_S)
            reader.connect(("127.0.0.1", replica.port))
            # More than the system takes for a client.
            reader.sendall(page * 5)
        for _ in range(3):
            assert replica.get("/ready").status_code == 200
            with httpx.Client(base_url=replica.url, timeout=DEADLINE_S, trust_env=False) as client:
                assert client.post("/predict", json=valid_row()).status_code == 200
        assert [event for event in replica.events() if event["level"] == "error"] == []
