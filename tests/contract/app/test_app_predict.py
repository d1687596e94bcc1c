"""Predictions: the model's answers, and their request ids."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.world.bundles import read_description, score, valid_row
from tests.support.world.replicas import ReplicaProcess
from tests.support.world.service import JSON, UNKNOWN_TO_THE_MODEL, error_of


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


def test_escaped_path_answers_as_the_direct_one(client: httpx.Client) -> None:
    for row, status in ((valid_row(), 200), (valid_row(age=-1), 422)):
        headers = JSON | {"X-Request-Id": "same"}
        answers = [
            client.post(path, content=json.dumps(row), headers=headers) for path in ("/predict", "/predict?debug=1")
        ]
        assert [answer.status_code for answer in answers] == [status, status]
        assert answers[0].json() == answers[1].json()


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
            assert (answer.status_code, error_of(answer)["code"]) == (422, "no_prediction")


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_failing_model_is_a_500_in_the_same_form_and_a_log_line(
    client: httpx.Client, replica: ReplicaProcess, path: str
) -> None:
    # The replica has served other tests before.
    before = len(replica.events())
    row = valid_row(home_region=UNKNOWN_TO_THE_MODEL)
    body = row if path == "/predict" else {"rows": [row]}
    answer = client.post(path, json=body)
    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal"

    def told() -> list[dict[str, Any]]:
        return [event for event in replica.events()[before:] if event.get("path") == path]

    # The lines come after the answer.
    replica.until(lambda: "request" in {event["event"] for event in told()})
    failed, request = told()
    assert (failed["event"], request["event"]) == ("request_failed", "request")
    assert "Unknown Category" in failed["error"]
    assert request["status"] == 500
    assert client.post("/predict", json=valid_row()).status_code == 200
