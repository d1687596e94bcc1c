"""What every load runner must do, asked of the fake, of the process and of the Swarm job with real load."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loadtests.samples import METADATA_KEY
from pipelines.adapters.load.process import LoadProcess
from pipelines.domain.verdict import Verdict
from pipelines.errors import Undecided
from pipelines.evaluation.gates.service.slo import RouteRun, judge_run
from pipelines.ports import LoadRun, LoadRunner
from pipelines.settings.settings import ROOT
from tests.support.containers.engine import engine, images
from tests.support.containers.load_jobs import PLAN, SERVER, load_place
from tests.support.world.fakes import FAKE_URL, FakeLoadRunner
from tests.support.world.load_plans import ROWS

__all__ = ["engine", "images"]

pytestmark = pytest.mark.timeout(2400)

RUNNERS = ["process", "job"]
OTHER_VERSION = "5"


@dataclass(frozen=True)
class Place:
    """A runner, servers for it that yield a plan's host, and whether nothing of its runs is left."""

    runner: LoadRunner
    refusing: LoadRunner
    serving: Callable[..., AbstractContextManager[str]]
    left: Callable[[], list[str]]


@contextmanager
def serving_here(**latency_model: Any) -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(SERVER), json.dumps(latency_model)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "fake":
        refusing = FakeLoadRunner(refusal=Undecided("the load run ended with 2", next="fix it"))
        yield Place(FakeLoadRunner(), refusing, lambda **_: nullcontext(FAKE_URL), list)
    elif request.param == "process":
        process = LoadProcess(ROOT)
        yield Place(process, process, serving_here, list)
    else:
        image = request.getfixturevalue("images")["loadtest"]
        with load_place(request.getfixturevalue("engine"), image, "runner") as swarm:
            job = swarm.job()
            yield Place(job, job, swarm.serving, swarm.left)


@dataclass(frozen=True)
class Measured:
    run: LoadRun
    workdir: Path
    left: list[str]


@pytest.fixture(scope="module")
def measured(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """One run of two workers against a fast server."""
    workdir = tmp_path_factory.mktemp("measured")
    with place.serving(delay_ms=2) as host:
        run = place.runner.run({**PLAN, "host": host}, ROWS, workdir)
    return Measured(run, workdir, place.left())


def counted(measured: Measured) -> list[dict[str, str]]:
    """Return the raw files that were judged: those of the last try, which come last."""
    raws: list[dict[str, str]] = measured.run.result["raw"]
    return raws[-int(PLAN["workers"]) :]


every_runner = pytest.mark.parametrize("place", ["fake", *RUNNERS], indirect=True)
every_real_runner = pytest.mark.parametrize("place", RUNNERS, indirect=True)


@every_runner
def test_a_run_brings_checks_that_the_gate_reads_and_a_page(measured: Measured) -> None:
    assert judge_run(RouteRun("slo", measured.run.result), demo=False)
    assert b"<html" in measured.run.report_html
    assert measured.left == []


@every_real_runner
def test_a_fast_server_passes_by_every_judged_check(measured: Measured) -> None:
    results = judge_run(RouteRun("slo", measured.run.result), demo=False)

    # A run that a busy machine disturbed says what was measured again, and shows it only.
    judged = {result.verdict for result in results if result.name != "slo.repeats"}
    assert judged == {Verdict.PASSED}, results
    assert measured.run.result["served_versions"] == {"6": measured.run.result["n"]}


@every_real_runner
def test_the_raw_values_of_each_worker_are_there_with_the_hash_that_was_judged(measured: Measured) -> None:
    assert len(counted(measured)) == PLAN["workers"]
    for raw in measured.run.result["raw"]:
        content = (measured.workdir / "out" / raw["file"]).read_bytes()
        assert raw["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


@every_real_runner
def test_what_the_workers_measured_adds_up_to_what_was_judged(measured: Measured) -> None:
    n = 0
    for raw in counted(measured):
        table = pq.read_table(measured.workdir / "out" / raw["file"])
        (window,) = json.loads(table.schema.metadata[METADATA_KEY])
        of_worker = int((table["intended_s"].to_numpy() >= window["measured_from_s"]).sum())
        assert of_worker == window["planned"]
        n += of_worker

    assert n == measured.run.result["n"]


@every_real_runner
def test_a_server_that_answers_as_another_version_is_inconclusive(place: Place, tmp_path: Path) -> None:
    with place.serving(version=OTHER_VERSION) as host:
        run = place.runner.run({**PLAN, "host": host}, ROWS, tmp_path)

    (result,) = judge_run(RouteRun("slo", run.result), demo=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert f'the target serves "{OTHER_VERSION}", the plan expects "6"' in result.message
    assert place.left() == []


@every_runner
def test_a_plan_that_is_refused_is_undecided_and_says_why(place: Place, tmp_path: Path) -> None:
    with place.serving() as host, pytest.raises(Undecided, match="ended with 2") as refusal:
        place.refusing.run({**PLAN, "host": host, "duration_s": 1}, ROWS, tmp_path)

    assert refusal.value.next
    assert place.left() == []
