"""What a replica says of itself: health, readiness, metrics, log."""

import os
import platform
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from app.runtime import PACKAGES
from pipelines.settings.settings import ROOT
from tests.support.world.bundles import valid_row
from tests.support.world.replicas import ReplicaProcess


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


def test_ready_names_digest_version_process_and_restarts(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    answer = client.get("/ready")
    assert answer.status_code == 200
    said = answer.json()
    pid = said.pop("pid")
    assert said == {"digest": bundle[1], "version": "6", "restarts": 0}
    assert Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_who_asks_for_another_release_is_told_so(client: httpx.Client, bundle: tuple[Path, str], path: str) -> None:
    own, other = bundle[1], f"sha256:{'0' * 64}"
    assert client.get(path, params={"digest": own}).status_code == 200
    assert client.get(path, params={"digest": [other, own]}).status_code == 200
    for named in (other, "none", [other, "none"], "", own[:-1]):
        answer = client.get(path, params={"digest": named})
        assert (answer.status_code, answer.json()["reason"]) == (503, "another release is asked for")


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_head_is_answered_as_get_is_without_the_body(client: httpx.Client, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == client.get(path).headers["content-type"]


def test_metrics_count_answers_by_route_and_status(client: httpx.Client, bundle: tuple[Path, str]) -> None:
    def counted(status: int, route: str = "/predict") -> float:
        wanted = f'slipway_requests_total{{route="{route}",status="{status}"}} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    before = counted(200), counted(422)
    client.post("/predict", json=valid_row())
    client.post("/predict", json=valid_row(age=-1))
    assert (counted(200), counted(422)) == (before[0] + 1, before[1] + 1)
    for route in ("/predict/batch", "/health"):
        others = counted(200, route)
        client.post(route, json={"rows": [valid_row()]}) if "predict" in route else client.get(route)
        assert counted(200, route) == others + 1
    text = client.get("/metrics").text
    assert f'digest="{bundle[1]}"' in text
    assert 'slipway_request_seconds_bucket{le="0.05",route="/predict"}' in text


def test_a_replica_says_what_it_runs_with(client: httpx.Client) -> None:
    said = client.get("/runtime").json()

    assert said["code"].startswith("sha256:") and said["python"] == platform.python_version()
    assert said["packages"]["onnxruntime"] == version("onnxruntime") and None not in said["packages"].values()
    assert "SLIPWAY_BUNDLE_DIGEST" in said["settings"] and said["user"] == os.getuid()
    assert said["limits"]["files"] > 0 and "lo" in said["network"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", said["network_namespace"])
    assert 20 * 2**20 < said["peak_memory_bytes"] < 2**30
    assert client.get("/openapi.json").json()["paths"].keys().isdisjoint({"/runtime"})


def test_the_packages_that_it_tells_are_those_that_the_service_needs() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["app"]
    names = {re.split(r"[^\w-]", each)[0] for each in wanted}
    assert names - set(PACKAGES) == {"fastapi-offline"}
    assert set(PACKAGES) <= names


def test_paths_that_strangers_invent_make_no_new_metric(client: httpx.Client) -> None:
    client.get("/invented")
    text = client.get("/metrics").text
    assert "invented" not in text
    assert 'route="other",status="404"' in text


def test_every_log_line_is_json_and_requests_do_not_write_one_each(replica: ReplicaProcess) -> None:
    events = replica.events()
    assert events[0]["event"] == "serving"
    assert not [event for event in events if event["event"] == "request" and event["status"] < 500]
