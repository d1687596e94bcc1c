"""The plan and the result of a load run are what their schemas in docs/reference say, whoever writes them."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from loadtests.judge.slo import judge
from loadtests.plan.plan import PLAN, describe_plan
from loadtests.runner.capacity import describe_capacity
from loadtests.runner.result import RESULT, as_json, describe_result, of_judgement
from loadtests.study.simulation import CONTROL, look_of, plan_of
from pipelines.adapters.load.job import LoadJob
from pipelines.adapters.load.networks import LoadFront, LoadNetworks
from pipelines.adapters.load.process import LoadProcess
from pipelines.adapters.load.swarm import Job, LoadSwarm
from pipelines.errors import Undecided
from pipelines.settings.settings import ROOT
from tests.support.world import load_plans

HOST, CHAMPION = "http://slipway-edge:8200", "http://slipway-edge:8100"
COMPARISON = {"blocks": 100, "block_s": 1, "warmup_s": 0.2, "margin": 1.1, "tolerance_ms": 0.5}
WRITTEN = load_plans.PLAN | {
    "host": HOST,
    "comparison": {"host": CHAMPION, "expected_version": "5", **COMPARISON},
    "first_request_ms": 1000,
    "first_request_took_ms": 12.5,
}


@pytest.mark.parametrize(
    ("name", "describe"),
    [
        ("load-plan.schema.json", describe_plan),
        ("load-result.schema.json", describe_result),
        ("load-capacity.schema.json", describe_capacity),
    ],
)
def test_a_schema_is_the_one_of_the_code(name: str, describe: Callable[[], dict[str, Any]]) -> None:
    written = json.loads((ROOT / "docs" / "reference" / name).read_text())
    assert written == describe(), "write the schemas of docs/reference anew, and commit them"


class Refusing(LoadSwarm):
    """A swarm that keeps the archive of a job and starts none."""

    def __init__(self) -> None:
        self.prefix = "slipway"
        self.archive = b""

    def start(self, name: str, archive: bytes, *, network: str, workers: int) -> Job:
        self.archive = archive
        raise Undecided("the swarm is full", next="wait")

    def remove(self, name: str | None = None) -> set[str]:
        return set()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_is_given_a_plan_of_the_format(tmp_path: Path, workers: int) -> None:
    swarm = Refusing()
    networks = LoadNetworks({url: LoadFront("net-1", url) for url in (HOST, CHAMPION)})

    with pytest.raises(Undecided, match="the swarm is full"):
        LoadJob(swarm, networks).run(WRITTEN | {"workers": workers}, load_plans.ROWS, tmp_path)

    with tarfile.open(fileobj=io.BytesIO(swarm.archive)) as archive:
        file = archive.extractfile("plan.json")
        assert file
        plan = PLAN.validate_json(file.read())
    assert (plan.workers, plan.via, plan.host) == (workers, "edge", HOST)
    assert (plan.join is not None) is (workers > 1)


def test_a_process_is_given_a_plan_of_the_format(tmp_path: Path) -> None:
    package = tmp_path / "root" / "loadtests"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "run.py").write_text("raise SystemExit(2)")

    with pytest.raises(Undecided, match="ended with 2"):
        LoadProcess(tmp_path / "root").run(WRITTEN, load_plans.ROWS, tmp_path / "work")

    plan = PLAN.validate_json((tmp_path / "work" / "plan.json").read_bytes())
    assert (plan.via, plan.comparison and plan.comparison.blocks) == ("direct", 100)


def written_result() -> dict[str, Any]:
    """Return a result with a p99 and an interval that are infinite."""
    plan, looks = plan_of(), [look_of(np.where(np.arange(12_000) % 20 == 0, np.inf, 10.0))]
    judgement = judge(plan, looks, CONTROL)
    body: dict[str, Any] = json.loads(as_json(of_judgement(plan, "now", looks=looks, judgement=judgement, raws=[])))
    return body


def test_a_result_is_read_as_it_was_written() -> None:
    body = written_result()
    result = RESULT.validate_json(json.dumps(body))

    assert json.loads(as_json(result)) == body
    assert set(describe_result()["required"]) == set(body)
    assert set(describe_result()["$defs"]["Check"]["required"]) == set(body["checks"][0])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(extra=1),
        lambda body: body.update(n="12000"),
        lambda body: body.update(verdict="perhaps"),
        lambda body: body.pop("checks"),
        lambda body: body["checks"][0].update(note="x"),
        lambda body: body["checks"][0].update(judged=1),
    ],
)
def test_a_result_of_another_form_is_none(change: Callable[[dict[str, Any]], Any]) -> None:
    body = written_result()
    change(body)

    with pytest.raises(ValidationError):
        RESULT.validate_json(json.dumps(body))
