"""Bodies that are no rows at all are refused, and the replica lives on."""

import gzip
import json
import socket
from typing import Any

import httpx
import pytest

from tests.support.world.bundles import valid_row
from tests.support.world.replicas import ReplicaProcess
from tests.support.world.service import JSON, error_of, post

ROW_LIMIT_BYTES = 1024 * 1024
BATCH_LIMIT_BYTES = 16 * ROW_LIMIT_BYTES


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"hello",
        b"\xff\xfe\x00",
        b'{"age": 41,}',
        b'{"rows": [',
        b"\x80\x04\x95",
    ],
)
def test_what_is_not_json_is_400(client: httpx.Client, path: str, body: bytes) -> None:
    answer = post(client, body, path)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"age":' * 100_000,
        b'{"rows":' * 100_000,
        b'{"rows":[' * 100_000,
        b'{"age":' + b"9" * 900_000 + b"}",
        b'{"age":"' + b"a" * 900_000 + b'"}',
        b'{"age":"\xff\xfe"}',
        b'{"\xff":1}',
        b"{" + b",".join(b'"x%d":1' % number for number in range(50_000)) + b"}",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'"text"',
        b"1",
        b'{"rows":[]}',
        b'{"rows":{}}',
        b'{"rows":[1]}',
        b'{"rows":[null]}',
        b'{"rows":[' + b"{}," * 300_000 + b"{}]}",
    ],
    ids=lambda body: f"{body[:12]!r} {len(body)}",
)
def test_hostile_json_is_refused_and_the_replica_lives(
    client: httpx.Client, replica: ReplicaProcess, path: str, body: bytes
) -> None:
    pid = client.get("/ready").json()["pid"]
    answer = post(client, body, path)
    assert answer.status_code in (400, 422)
    assert error_of(answer)
    assert client.get("/ready").json()["pid"] == pid


@pytest.mark.parametrize(
    ("path", "limit_bytes"), [("/predict", ROW_LIMIT_BYTES), ("/predict/batch", BATCH_LIMIT_BYTES)]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_body_above_the_limit_is_413(client: httpx.Client, path: str, limit_bytes: int, chunked: bool) -> None:
    piece = b" " * 65_536
    pieces = limit_bytes // len(piece) + 8
    content: Any = iter([piece] * pieces) if chunked else piece * pieces
    answer = client.post(path, content=content, headers=JSON)
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "too_large"
    assert client.post("/predict", json=valid_row()).status_code == 200


def test_body_at_the_limit_is_read(client: httpx.Client) -> None:
    row = json.dumps(valid_row()).encode()
    assert post(client, row.ljust(ROW_LIMIT_BYTES)).status_code == 200
    assert post(client, row.ljust(ROW_LIMIT_BYTES + 1)).status_code == 413


def test_announced_size_above_the_limit_is_refused_before_the_body(replica: ReplicaProcess) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {10**12}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_endless_chunked_body_is_refused_at_the_limit(replica: ReplicaProcess) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        connection.sendall(head)
        for _ in range(ROW_LIMIT_BYTES // 65_536 + 1):
            connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_chunked_body_within_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps(valid_row()).encode()
    answer = client.post("/predict", content=iter([body[:10], body[10:]]), headers=JSON)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonx"},
        {},
        JSON | {"content-encoding": "gzip"},
        JSON | {"content-encoding": "br"},
    ],
)
def test_other_content_is_415(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    body = gzip.compress(json.dumps(valid_row()).encode())
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == 415
    assert error_of(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/predict", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/predict/", 404, "not_found"),
    ],
)
def test_other_routes_are_refused_in_the_same_form(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert error_of(answer)["code"] == code
