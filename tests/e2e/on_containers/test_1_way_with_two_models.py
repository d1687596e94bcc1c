"""A second model beside the one of the tests before: added, served, promoted and removed while the first answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bench.load.load_client import LoadClient, under_load
from pipelines.operator.demo_model import NAME, TARGET, second_project
from tests.e2e.containers import Containers
from tests.e2e.installation import DEADLINE_S
from tests.e2e.on_containers.test_1_way_on_containers import ROW, assert_unharmed
from tests.support.containers.engine import FIRST_BUILD_S

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

OF_IT = ("--model", NAME)


@pytest.fixture(scope="module")
def second(containers: Containers) -> Iterator[Path]:
    """The project of the second model, in the tree of the demonstration; whatever a test left of it is removed."""
    containers.apply_policy()
    policy = yaml.safe_load((containers.home / "policy.test.yaml").read_text())
    folder = second_project(containers.tree, policy).folder
    yield folder
    containers.slipway("model", "remove", NAME)


def test_a_second_model_is_added_and_promoted_while_the_first_loses_no_request(
    containers: Containers, second: Path
) -> None:
    before, edge = containers.health("production"), containers.started("edge")
    replicas = containers.running("production-live")
    with under_load(LoadClient(containers.url, ROW, kept_per_s=20, new_per_s=5)) as result:
        containers.done("model", "add", str(second))
        assert ask(containers, "staging", "GET", "/health").json()["status"] == "no release"
        staged = containers.decided("candidate", *OF_IT)
        assert staged.returncode == 0, staged.stdout + staged.stderr
        version = str(json.loads(staged.stdout.splitlines()[-1])["model_version"])
        promoting = containers.begin("promote", "--version", version, *OF_IT)
        containers.wait_for(lambda: waits(containers, version), f"the promotion of {NAME} to wait")
        containers.done("approve", "--version", version, *OF_IT, "--as", "bob")
        printed, told = promoting.communicate(timeout=DEADLINE_S)
    assert printed.strip() == f"Promoted {NAME} v{version} -> Production", told
    assert_unharmed(result, {before["version"]})
    assert (containers.health("production"), containers.running("production-live")) == (before, replicas)
    assert containers.started("edge") == edge
    assert containers.plan() == ""
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")


def test_each_model_answers_below_its_name_and_the_default_one_at_the_root_too(
    containers: Containers, second: Path
) -> None:
    (row,) = [json.loads(line) for line in rows_of(second)][:1]
    answer = ask(containers, "production", "POST", "/predict", json=row)
    assert (answer.status_code, answer.json()["model"]) == (200, NAME), answer.text
    for model, path in (("churn-model", "/predict"), ("churn-model", "/models/churn-model/predict")):
        answer = httpx.post(f"{containers.url}{path}", json=ROW, timeout=30, trust_env=False)
        assert (answer.status_code, answer.json()["model"]) == (200, model), answer.text
    assert httpx.post(f"{containers.url}/models/none/predict", json=row, trust_env=False).status_code == 404
    listed = {each["name"]: each for each in containers.read("model", "list")["models"]}
    assert listed[NAME]["urls"]["production"] == f"{containers.url}/models/{NAME}"


def test_a_second_model_is_removed_and_the_first_one_loses_no_request(containers: Containers, second: Path) -> None:
    before, replicas = containers.health("production"), containers.running("production-live")
    with under_load(LoadClient(containers.url, ROW, kept_per_s=20, new_per_s=5)) as result:
        containers.done("model", "remove", NAME)
    assert_unharmed(result, {before["version"]})
    assert containers.running("production-live") == replicas
    assert [name for name in containers.left() if "diabetes" in name] == []
    assert ask(containers, "production", "GET", "/health").status_code == 404
    assert [release["model"] for release in containers.read("history", *OF_IT)["releases"]] != []
    assert containers.plan() == ""
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")


def ask(containers: Containers, environment: str, method: str, path: str, **more: Any) -> httpx.Response:
    """Ask the second model by its path at the edge."""
    port = {"staging": containers.settings.staging_port, "production": containers.settings.production_port}[environment]
    url = f"http://127.0.0.1:{port}/models/{NAME}{path}"
    return httpx.request(method, url, timeout=30, trust_env=False, **more)


def waits(containers: Containers, version: str) -> bool:
    """Whether the second model's promotion waits for people."""
    unfinished = containers.read("status", *OF_IT)["unfinished"]
    return any(work["version"] == version and work["state"] == "waiting" for work in unfinished)


def rows_of(project: Path) -> Iterator[str]:
    """Yield the rows of a project's data as requests, in JSON."""
    header, *lines = (project / "data" / "raw" / "diabetes.csv").read_text().splitlines()
    for line in lines:
        values = zip(header.split(","), map(float, line.split(",")), strict=True)
        yield json.dumps({name: value for name, value in values if name != TARGET})
