"""The HTTP contract of a replica, asked of a real one."""

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.world.bundles import make_bundle, read_description, score, valid_row
from tests.support.world.replicas import ReplicaProcess, listening, release

ROW_LIMIT_BYTES = 1024 * 1024
BATCH_LIMIT_BYTES = 16 * ROW_LIMIT_BYTES
JSON = {"content-type": "application/json"}
UNKNOWN_TO_THE_MODEL = "atlantis"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_bundle(tmp_path_factory.mktemp("bundles"), fails_on_region=UNKNOWN_TO_THE_MODEL)


@pytest.fixture(scope="module")
def replica(bundle: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    logs = tmp_path_factory.mktemp("logs")
    with listening() as shared, ReplicaProcess(logs, release(*bundle, version="6"), shared) as running:
        running.until_alive()
        yield running


@pytest.fixture(scope="module")
def client(replica: ReplicaProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replica.url, timeout=20.0, trust_env=False) as opened:
        yield opened


def _error(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    return error


def _fields(response: httpx.Response) -> list[str]:
    assert response.status_code == 422, response.text
    error = _error(response)
    assert error["code"] == "invalid_field"
    assert all(each["message"] for each in error["fields"])
    return [each["field"] for each in error["fields"]]


def _post(client: httpx.Client, body: bytes, path: str = "/predict") -> httpx.Response:
    return client.post(path, content=body, headers=JSON)


def test_health_says_what_is_served(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "stage": "Production",
        "status": "ok",
        "model": "toy-model",
        "version": "6",
        "digest": bundle[1],
    }


def test_ready_names_digest_version_and_pid(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    answer = client.get("/ready")
    assert answer.status_code == 200
    pid = answer.json().pop("pid")
    assert answer.json() == {"digest": bundle[1], "version": "6", "pid": pid}
    assert Path(f"/proc/{pid}").exists()


def test_prediction_is_the_models_answer(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    rows = read_description(bundle[0])["golden"]["rows"]
    expected = score((bundle[0] / "model.onnx").read_bytes(), rows)
    for row, answer in zip(rows, expected, strict=True):
        body = client.post("/predict", json=row).json()
        assert body.pop("request_id")
        assert body == {
            "prediction": answer["prediction"],
            "probability": pytest.approx(answer["probability"], abs=1e-6),
            "model": "toy-model",
            "version": "6",
        }


def test_batch_answers_as_single_rows_do_in_their_order(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    rows = read_description(bundle[0])["golden"]["rows"]
    answer = client.post("/predict/batch", json={"rows": rows})
    assert answer.status_code == 200
    singles = [client.post("/predict", json=row).json() for row in rows]
    predictions = answer.json()["predictions"]
    assert [each["prediction"] for each in predictions] == [each["prediction"] for each in singles]
    for many, single in zip(predictions, singles, strict=True):
        assert many["probability"] == pytest.approx(single["probability"], abs=1e-6)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_request_id_is_taken_over_when_it_is_plain(client: httpx.Client, path: str) -> None:
    body = valid_row() if path == "/predict" else {"rows": [valid_row()]}
    answer = client.post(path, json=body, headers={"X-Request-Id": "order-17.a_B"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-17.a_B"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, 'a"b', "<script>"])
def test_request_id_is_replaced_when_it_is_not_plain(client: httpx.Client, offered: str) -> None:
    answer = client.post("/predict", json=valid_row(), headers={"X-Request-Id": offered})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] != offered
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"age": -1}, "age"),
        ({"age": 121}, "age"),
        ({"age": 41.5}, "age"),
        ({"age": True}, "age"),
        ({"age": "41"}, "age"),
        ({"age": None}, "age"),
        ({"visits": 2**53 + 1}, "visits"),
        ({"visits": 10**30}, "visits"),
        ({"income": "much"}, "income"),
        ({"income": False}, "income"),
        ({"income": [1.0]}, "income"),
        ({"income": 1e39}, "income"),
        ({"income": -1e300}, "income"),
        ({"plan": "gold"}, "plan"),
        ({"plan": 1}, "plan"),
        ({"plan": ""}, "plan"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_value_is_refused_by_field(client: httpx.Client, changes: dict[str, Any], field: str) -> None:
    assert _fields(client.post("/predict", json=valid_row(**changes))) == [field]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("field", ["age", "income"])
def test_number_that_is_not_finite_is_refused_by_field(client: httpx.Client, number: str, field: str) -> None:
    body = json.dumps(valid_row(**{field: "@"})).replace('"@"', number)
    assert _fields(_post(client, body.encode())) == [field]


def test_value_at_a_declared_bound_is_accepted(client: httpx.Client) -> None:
    for age in (0, 120):
        assert client.post("/predict", json=valid_row(age=age)).status_code == 200


def test_all_faults_of_a_row_are_named(client: httpx.Client) -> None:
    row = valid_row(age=-1, plan="gold", colour="red")
    del row["income"]
    assert set(_fields(client.post("/predict", json=row))) == {"age", "plan", "colour", "income"}


def test_faults_of_a_batch_are_named_with_their_row(client: httpx.Client) -> None:
    rows = [valid_row(), valid_row(), valid_row(), valid_row(age=-1, plan="gold")]
    answer = client.post("/predict/batch", json={"rows": rows})
    assert _fields(answer) == ["rows.3.age", "rows.3.plan"]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (valid_row(age=-1), "rows.999.age"),
        ({"age": 41, "visits": 3, "income": 1.0, "plan": "pro"}, "rows.999.home_region"),
        (valid_row(colour="red"), "rows.999.colour"),
    ],
)
def test_fault_in_a_large_batch_is_named_too(client: httpx.Client, row: dict[str, Any], field: str) -> None:
    answer = client.post("/predict/batch", json={"rows": [valid_row()] * 999 + [row]})
    assert _fields(answer) == [field]


def test_fault_that_only_the_fast_validator_sees_is_a_refusal_too(client: httpx.Client) -> None:
    body = json.dumps(valid_row()).replace('"plus"', '"pl\\ud800us"')
    assert _post(client, body.encode()).status_code in (400, 422)


def test_repeated_field_counts_with_its_last_value(client: httpx.Client) -> None:
    body = json.dumps(valid_row())
    repeated = body.replace('"age": 41', '"age": 41, "age": -1')
    assert _fields(_post(client, repeated.encode())) == ["age"]
    repeated = body.replace('"age": 41', '"age": -1, "age": 41')
    assert _post(client, repeated.encode()).status_code in (200, 422)


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
    answer = _post(client, body, path)
    assert answer.status_code == 400
    assert _error(answer)["code"] == "invalid_json"


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
    answer = _post(client, body, path)
    assert answer.status_code in (400, 422)
    assert _error(answer)
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
    assert _error(answer)["code"] == "too_large"
    assert client.post("/predict", json=valid_row()).status_code == 200


def test_body_at_the_limit_is_read(client: httpx.Client) -> None:
    row = json.dumps(valid_row()).encode()
    assert _post(client, row.ljust(ROW_LIMIT_BYTES)).status_code == 200
    assert _post(client, row.ljust(ROW_LIMIT_BYTES + 1)).status_code == 413


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
    assert _error(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_spellings_of_json_are_accepted(client: httpx.Client, kind: str) -> None:
    answer = client.post("/predict", content=json.dumps(valid_row()), headers={"content-type": kind})
    assert answer.status_code == 200


def test_extreme_but_allowed_number_never_gives_a_prediction_of_nan(client: httpx.Client) -> None:
    for income in (3.4e38, -3.4e38, 5e-324):
        answer = client.post("/predict", json=valid_row(income=income))
        if answer.status_code == 200:
            assert 0 <= answer.json()["probability"] <= 1
        else:
            assert (answer.status_code, _error(answer)["code"]) == (422, "no_prediction")


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
    assert _error(answer)["code"] == code


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_failing_model_is_a_500_in_the_same_form_and_a_log_line(
    client: httpx.Client, replica: ReplicaProcess, path: str
) -> None:
    row = valid_row(home_region=UNKNOWN_TO_THE_MODEL)
    body = row if path == "/predict" else {"rows": [row]}
    answer = client.post(path, json=body)
    assert answer.status_code == 500
    assert _error(answer)["code"] == "internal"
    # The lines come after the answer.
    replica.until(lambda: "request" in {e["event"] for e in replica.events() if e.get("path") == path})
    failed, request = [event for event in replica.events() if event.get("path") == path]
    assert (failed["event"], request["event"]) == ("request_failed", "request")
    assert "Unknown Category" in failed["error"]
    assert request["status"] == 500
    assert client.post("/predict", json=valid_row()).status_code == 200


def test_escaped_path_answers_as_the_direct_one(client: httpx.Client) -> None:
    for row, status in ((valid_row(), 200), (valid_row(age=-1), 422)):
        headers = JSON | {"X-Request-Id": "same"}
        answers = [
            client.post(path, content=json.dumps(row), headers=headers) for path in ("/predict", "/predict?debug=1")
        ]
        assert [answer.status_code for answer in answers] == [status, status]
        assert answers[0].json() == answers[1].json()


def test_openapi_describes_the_schema_of_the_release(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    def request_schema(path: str) -> dict[str, Any]:
        content = paths[path]["post"]["requestBody"]["content"]
        schema: dict[str, Any] = content["application/json"]["schema"]
        return schema

    row = request_schema("/predict")
    assert row["required"] == ["age", "visits", "income", "plan", "home_region"]
    assert row["additionalProperties"] is False
    assert row["properties"]["plan"]["enum"] == ["basic", "plus", "pro"]
    assert (row["properties"]["age"]["minimum"], row["properties"]["age"]["maximum"]) == (0, 120)
    assert request_schema("/predict/batch")["properties"]["rows"]["items"]["required"] == row["required"]
    assert client.get("/docs").status_code == 200


def test_metrics_count_answers_by_route_and_status(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    def counted(status: int) -> float:
        wanted = f'slipway_requests_total{{route="/predict",status="{status}"}} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    before = counted(200), counted(422)
    client.post("/predict", json=valid_row())
    client.post("/predict", json=valid_row(age=-1))
    assert (counted(200), counted(422)) == (before[0] + 1, before[1] + 1)
    text = client.get("/metrics").text
    assert f'digest="{bundle[1]}"' in text
    assert 'slipway_request_seconds_bucket{le="0.05",route="/predict"}' in text


def test_paths_that_strangers_invent_make_no_new_metric(client: httpx.Client) -> None:
    client.get("/invented")
    text = client.get("/metrics").text
    assert "invented" not in text
    assert 'route="other",status="404"' in text


def test_every_log_line_is_json_and_requests_do_not_write_one_each(replica: ReplicaProcess) -> None:
    events = replica.events()
    assert events[0]["event"] == "serving"
    assert not [event for event in events if event["event"] == "request" and event["status"] < 500]
