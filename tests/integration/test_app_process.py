"""A replica as a process: it starts with a release that holds or not at all, and stops without a reset."""

import json
import os
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.load.load_client import LoadClient, under_load
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.replicas import DEADLINE_S, ReplicaProcess, listening, release

BOOT_ERROR = 3
BODY = json.dumps(valid_row()).encode()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    """A replica of version 1, for who only asks it."""
    directory = tmp_path_factory.mktemp("serving")
    with listening() as shared, ReplicaProcess(directory, release(*make_bundle(directory)), shared) as replica:
        replica.until_alive()
        yield replica


def _request(body: bytes = BODY) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    return head.encode() + body


def _connect(replica: ReplicaProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", replica.port), timeout=DEADLINE_S)


def _reply(connection: socket.socket) -> bytes:
    """One whole answer, or what came before the connection's end."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    return received


def _data_segments(connection: socket.socket) -> int:
    """How many segments with data have come in: `tcpi_data_segs_in` of Linux's tcp_info."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int(struct.unpack_from("I", told, 152)[0])


def _until_draining(replica: ReplicaProcess) -> None:
    replica.until(lambda: any(event["event"] == "draining" for event in replica.events()))


def _refused_start(directory: Path, environ: dict[str, str]) -> tuple[int, dict[str, str]]:
    """The exit status and the last log line."""
    with listening() as shared, ReplicaProcess(directory, environ, shared) as replica:
        status = replica.until_exit()
        last: dict[str, str] = replica.events()[-1]
        return status, last


def test_replica_confirms_its_release_on_its_private_socket_and_serves_on_the_shared_one(
    serving: ReplicaProcess, tmp_path: Path
) -> None:
    _, digest = make_bundle(tmp_path)
    answer = serving.until_alive()
    assert answer.status_code == 200
    assert (answer.json()["digest"], answer.json()["version"]) == (digest, "1")
    assert httpx.post(f"{serving.url}/predict", json=valid_row(), trust_env=False).status_code == 200


def test_replica_without_a_release_lives_and_is_not_ready(tmp_path: Path) -> None:
    with listening() as shared, ReplicaProcess(tmp_path, {"SLIPWAY_STAGE": "Staging"}, shared) as replica:
        answer = replica.until_alive()
        assert (answer.status_code, answer.json()["reason"]) == (503, "no release")
        health = replica.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "no release")
        for path in ("/predict", "/predict/batch"):
            refused = httpx.post(f"{replica.url}{path}", json=valid_row(), trust_env=False)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_release")


def test_corrupt_bundle_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    model = path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    status, last = _refused_start(tmp_path, release(path, digest))
    assert status == BOOT_ERROR
    assert (last["event"], last["kind"]) == ("start_failed", "BundleError")
    assert "digest mismatch of model.onnx" in last["reason"]


def test_wrong_digest_ends_the_start_with_both_digests(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    released = "sha256:" + "0" * 64
    status, last = _refused_start(tmp_path, release(path, released))
    assert status == BOOT_ERROR
    assert f"expected {released}, got {digest}" in last["reason"]


def test_golden_mismatch_ends_the_start_with_both_answers(tmp_path: Path) -> None:
    status, last = _refused_start(tmp_path, release(*make_bundle(tmp_path, wrong_golden=True)))
    assert status == BOOT_ERROR
    assert "golden row 0 mismatch" in last["reason"]


def test_missing_bundle_ends_the_start(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    shutil.rmtree(path)
    status, last = _refused_start(tmp_path, release(path, digest))
    assert status == BOOT_ERROR
    assert str(path) in last["reason"]


def test_bundle_of_another_model_ends_the_start(tmp_path: Path) -> None:
    status, last = _refused_start(tmp_path, release(*make_bundle(tmp_path, model="other-model")))
    assert status == BOOT_ERROR
    assert "other-model" in last["reason"]


def test_incomplete_settings_end_the_start_with_the_variable(tmp_path: Path) -> None:
    status, last = _refused_start(tmp_path, {"SLIPWAY_BUNDLE_DIR": str(tmp_path)})
    assert status == BOOT_ERROR
    assert "SLIPWAY_BUNDLE_DIGEST" in last["reason"]


def test_failed_start_takes_no_request_from_the_serving_replica(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    bad = release(*make_bundle(tmp_path, wrong_golden=True), version="2")
    with listening() as shared, ReplicaProcess(tmp_path, release(path, digest), shared) as good:
        good.until_alive()
        load = LoadClient(good.url, valid_row())
        with under_load(load) as result, ReplicaProcess(tmp_path, bad, shared) as starting:
            assert starting.until_exit() == BOOT_ERROR
        assert result.failures == []
        assert result.versions == {"1"}


def test_stopping_replica_loses_no_request_while_another_serves(tmp_path: Path) -> None:
    old = release(*make_bundle(tmp_path), version="1")
    new = release(*make_bundle(tmp_path, seed=1), version="2")
    with (
        listening() as shared,
        ReplicaProcess(tmp_path, old, shared) as leaving,
        ReplicaProcess(tmp_path, new, shared) as staying,
    ):
        leaving.until_alive()
        staying.until_alive()
        with under_load(LoadClient(leaving.url, valid_row())) as result:
            staying.until(lambda: result.versions == {"1", "2"})
            leaving.process.terminate()
            assert leaving.until_exit() == 0
        assert result.failures == []
        assert staying.process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the segments of a connection")
def test_an_answer_is_sent_in_one_piece(serving: ReplicaProcess) -> None:
    # Half an answer of a replica that dies is lost: nobody can ask another replica for the rest.
    for ask in (_request(), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        with _connect(serving) as asking:
            for _ in range(5):
                asking.sendall(ask)
                assert _reply(asking).startswith(b"HTTP/1.1 200")
            assert _data_segments(asking) == 5


def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(serving: ReplicaProcess) -> None:
    offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    request = _request().replace(b"\r\n\r\n", offer, 1)
    with _connect(serving) as connection:
        for sent in (request[: request.index(b"grade: h2c")], request[request.index(b"grade: h2c") :]):
            connection.sendall(sent)
        assert _reply(connection).startswith(b"HTTP/1.1 200 ")
        # The connection goes on as it began.
        connection.sendall(request)
        assert _reply(connection).startswith(b"HTTP/1.1 200 ")


def test_a_head_without_end_is_refused_and_not_kept(serving: ReplicaProcess) -> None:
    with _connect(serving) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"x" * 16_384)
    with _connect(serving) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 16_384)
        assert connection.recv(12) == b"HTTP/1.1 431"


def test_a_request_behind_another_is_answered_wherever_it_is_cut_and_its_head_is_bounded(
    serving: ReplicaProcess,
) -> None:
    request = _request()
    for at in (1, 30, request.index(b"\r\nHost") + 1, request.index(b"\r\n\r\n") + 2, len(request) - 5):
        with _connect(serving) as connection:
            connection.sendall(request + request[:at])
            assert _reply(connection).startswith(b"HTTP/1.1 200 ")
            connection.sendall(request[at:])
            assert _reply(connection).startswith(b"HTTP/1.1 200 ")
    # What counts is the head alone, however much body comes with the end of it.
    batch = b'{"rows": [' + BODY + b" " * 60_000 + b"]}"
    head = b"POST /predict/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with _connect(serving) as connection:
        connection.sendall(request + head[:40])
        assert _reply(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall((head % len(batch))[40:] + batch)
        assert _reply(connection).startswith(b"HTTP/1.1 200 ")
    with _connect(serving) as connection:
        connection.sendall(request + b"GET /health HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"x" * 16_384)


def test_a_length_of_thousands_of_digits_is_refused_by_its_value(serving: ReplicaProcess) -> None:
    for digits in (b"0" * 5000 + b"2", b"9" * 5000):
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        with _connect(serving) as connection:
            connection.sendall(head + b"Content-Length: " + digits + b"\r\n\r\n{}")
            assert connection.recv(12) in (b"HTTP/1.1 422", b"HTTP/1.1 400")


def test_idle_connection_gets_its_next_answer_and_is_then_closed(tmp_path: Path) -> None:
    with (
        listening() as shared,
        ReplicaProcess(tmp_path, release(*make_bundle(tmp_path)), shared) as replica,
    ):
        replica.until_alive()
        with _connect(replica) as idle:
            idle.sendall(_request())
            assert b"connection: close" not in _reply(idle)
            replica.process.terminate()
            _until_draining(replica)
            idle.sendall(_request())
            answer = _reply(idle)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
            assert idle.recv(1) == b""
        assert replica.until_exit() == 0


def test_request_under_way_at_the_stop_is_answered(tmp_path: Path) -> None:
    with (
        listening() as shared,
        ReplicaProcess(tmp_path, release(*make_bundle(tmp_path)), shared) as replica,
    ):
        replica.until_alive()
        with _connect(replica) as busy:
            busy.sendall(_request(BODY[:10]))
            replica.process.terminate()
            _until_draining(replica)
            busy.sendall(BODY[10:])
            assert _reply(busy).startswith(b"HTTP/1.1 200")
        assert replica.until_exit() == 0


def test_draining_replica_says_that_it_is_not_ready(tmp_path: Path) -> None:
    with (
        listening() as shared,
        ReplicaProcess(tmp_path, release(*make_bundle(tmp_path)), shared) as replica,
    ):
        replica.until_alive()
        ask = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
        with _connect(replica) as asking:
            asking.sendall(ask)
            assert _reply(asking).startswith(b"HTTP/1.1 200")
            replica.process.terminate()
            _until_draining(replica)
            asking.sendall(ask)
            answer = _reply(asking)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b'"draining"' in answer


def test_client_that_never_leaves_does_not_keep_the_replica(tmp_path: Path) -> None:
    with (
        listening() as shared,
        ReplicaProcess(tmp_path, release(*make_bundle(tmp_path)), shared) as replica,
    ):
        replica.until_alive()
        with _connect(replica) as slow, _connect(replica) as silent:
            slow.sendall(_request(BODY[:10]))
            replica.process.terminate()
            assert replica.until_exit() == 0
            assert silent.recv(1) == b""


def test_stuck_worker_is_replaced(tmp_path: Path) -> None:
    environ = release(*make_bundle(tmp_path))
    with listening() as shared, ReplicaProcess(tmp_path, environ, shared, "--timeout", "2") as replica:
        stuck = replica.until_alive().json()["pid"]
        os.kill(stuck, signal.SIGSTOP)
        answer = replica.until_answer(lambda each: each.json()["pid"] != stuck)
        assert answer.status_code == 200
        assert any("WORKER TIMEOUT" in event.get("message", "") for event in replica.events())


def test_access_lines_are_sampled(tmp_path: Path) -> None:
    environ = release(*make_bundle(tmp_path)) | {"SLIPWAY_ACCESS_LOG_EVERY": "10"}
    with listening() as shared, ReplicaProcess(tmp_path, environ, shared) as replica:
        replica.until_alive()
        with httpx.Client(base_url=replica.url, trust_env=False) as client:
            for _ in range(40):
                assert client.post("/predict", json=valid_row()).status_code == 200
        lines = [event for event in replica.events() if event["event"] == "request"]
        assert len(lines) == 4
        assert {line["version"] for line in lines} == {"1"}
