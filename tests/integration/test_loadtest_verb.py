"""`slipway loadtest` as an operator types it: the real command and API, a service of known latency as staging."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.adapters.load.process import LoadProcess
from pipelines.errors import UsageError
from pipelines.operator.load_run import LoadRequest, run_loadtest
from pipelines.ports import LoadRunner
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens
from pipelines.wiring.stores import open_checkpoints
from tests.integration.test_load_run import LIMIT_MS, check_of, serving
from tests.support.servers.servers import await_http, free_port
from tests.support.world.records import policy_body, put_in_force
from tests.support.world.verbs import run_module

ROOT = Path(__file__).parents[2]
ROWS = [{"tenure": tenure} for tenure in range(8)]
# Wide, because the validity rules scale with it: a busy machine must not decide these tests.
POLICY = policy_body(
    **{
        "profile": "demo",
        "slo.rate_per_s": 100,
        "slo.warmup_s": 0.5,
        "slo.duration_s": 10,
        "slo.extension": False,
        "slo.max_error_rate": 0.01,
        "slo.quantiles": [
            {"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True},
            {"quantile": 0.99, "limit_ms": 2 * LIMIT_MS, "judged": False},
        ],
    }
)

pytestmark = pytest.mark.timeout(300)


class Operator:
    """Types at a machine with a home, whose API runs."""

    def __init__(self, home: Path) -> None:
        make_tokens(home / "tokens.json")
        self.home = home
        self.environ = {**os.environ, "SLIPWAY_HOME": str(home), "TARGET": "local"}
        self.environ |= {f"SLIPWAY_PORT_{name}": str(free_port()) for name in ("STAGING", "PRODUCTION", "API")}

    def loadtest(self, *words: str, staging: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
        port = {"SLIPWAY_PORT_STAGING": staging.rpartition(":")[2]} if staging else {}
        environ = self.environ | port | environ
        done = run_module("pipelines.cli", ["loadtest", *words], cwd=ROOT, environ=environ, timeout_s=240)
        sys.stdout.write(done.stdout + done.stderr)
        return done

    def result(self) -> dict[str, Any]:
        (file,) = (self.home / "loadtests").glob("*/result.json")
        body: dict[str, Any] = json.loads(file.read_text())
        return body


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    found = Operator(home)
    settings = Settings.from_environ(found.environ)
    put_in_force(SqlRecords(settings.database_url, open_checkpoints(settings)), POLICY)
    kept = home / "work" / "e-1" / "rows.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"model": "churn-model", "rows": ROWS}))
    log = home / "api.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pipelines.cli", "api"]
        api = subprocess.Popen(command, cwd=ROOT, env=found.environ, stdout=output, stderr=output)
        try:
            await_http(f"{settings.api_url}/health", api, log)
            yield found
        finally:
            api.terminate()
            api.wait(20)


@pytest.fixture
def operator(installation: Operator) -> Operator:
    """The operator of the installation that all tests share, where no load run has been yet."""
    shutil.rmtree(installation.home / "loadtests", ignore_errors=True)
    return installation


@pytest.mark.parametrize(("target", "via", "workers"), [("local", "direct", 2), ("docker", "edge", 1)])
def test_a_fast_service_passes_and_its_evidence_stays_in_the_home(
    operator: Operator, target: str, via: str, workers: int
) -> None:
    with serving(delay_ms=2) as (staging, _):
        words = ("--workers", str(workers), "--shape", "spike", "--rate", "120")
        done = operator.loadtest(*words, staging=staging, TARGET=target)
    assert done.returncode == 0
    assert "look 1: " in done.stderr
    assert f"passed, path measured: {via}" in done.stdout
    page = Path(done.stdout.splitlines()[-1])
    assert page.parent.parent == operator.home / "loadtests"
    assert page.read_text().startswith("<!doctype html>")
    result = operator.result()
    assert (result["via"], result["shape"]["kind"], result["rate_per_s"]) == (via, "spike", 120)
    assert {raw["file"][-len("0.parquet")] for raw in result["raw"]} == {str(number) for number in range(workers)}
    assert {row["tenure"] for row in json.loads((page.parent / "rows.json").read_text())} == set(range(8))


def test_a_slow_service_fails_and_the_result_is_one_object(operator: Operator) -> None:
    with serving(delay_ms=LIMIT_MS + 30) as (staging, _):
        done = operator.loadtest("--json", staging=staging)
    assert done.returncode == 3
    body = json.loads(done.stdout)
    assert body["verdict"] == "failed"
    assert check_of(body, "p95")["message"].startswith("FAIL: p95=2")
    assert check_of(body, "p95")["observed"] == pytest.approx(LIMIT_MS + 30, abs=300)
    assert (Path(body["directory"]) / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "production"], "'production' is never loaded, only staging is"),
        (["--rate", "fast"], "RATE 'fast' is no number"),
        (["--rate", "nan"], "rate_per_s is nan, not a valid number"),
        (["--rate", "20", "--duration", "1"], "p95 needs at least 59 requests, 20 req/s x 1 s gives 20"),
        (["--duration", "9"], "duration_s is 9, must be 10 or more"),
        (["--shape", "zigzag"], "shape: kind is 'zigzag', not steady, ramp, spike, soak or step"),
        (["--find-capacity", "--shape", "spike"], "--find-capacity tries steady rates, not 'spike'"),
        (["--workers", "0"], "WORKERS 0 is out of range"),
    ],
)
def test_what_could_prove_nothing_is_refused_before_anything_is_sent(
    operator: Operator, words: list[str], message: str
) -> None:
    with serving() as (staging, _):
        done = operator.loadtest(*words, "--json", staging=staging)
    assert done.returncode == 2
    assert message in json.loads(done.stdout)["error"]["message"]
    assert "look" not in done.stderr
    assert not list((operator.home / "loadtests").glob("*"))


def test_several_workers_are_the_swarms_and_leave_the_same_files(operator: Operator) -> None:
    with serving(delay_ms=2) as (staging, _):
        code, result = from_swarm(operator, staging, workers=2, duration_s=10)
    directory = Path(result["directory"])
    assert (code, result["verdict"]) == (0, "passed")
    assert operator.result()["raw"] == result["raw"]
    assert {"plan.json", "report.html", *(raw["file"] for raw in result["raw"])} <= set(os.listdir(directory))
    assert "out" not in os.listdir(directory)


def test_a_plan_that_could_prove_nothing_never_reaches_the_swarm(operator: Operator) -> None:
    with serving() as (staging, _), pytest.raises(UsageError, match="duration_s is 9, must be 10 or more"):
        from_swarm(operator, staging, opening=pytest.fail, workers=2, duration_s=9)
    assert not list((operator.home / "loadtests").glob("*"))


def from_swarm(
    operator: Operator, staging: str, *, opening: Callable[[], LoadRunner] = partial(LoadProcess, ROOT), **asked: Any
) -> tuple[int, dict[str, Any]]:
    """Ask as the command does where there is a swarm; the runner in its place is that of processes."""
    settings = Settings.from_environ(operator.environ | {"SLIPWAY_PORT_STAGING": staging.rpartition(":")[2]})
    return run_loadtest(LoadRequest("staging", **asked), settings, POLICY, lambda line: None, swarm=opening)


def test_staging_without_a_release_or_without_an_answer_is_said_so(operator: Operator) -> None:
    with serving(version="") as (staging, _):
        empty = operator.loadtest(staging=staging)
    assert empty.returncode == 2
    assert "staging serves no release" in empty.stderr
    down = operator.loadtest(staging=staging)
    assert down.returncode == 4
    assert "does not answer" in down.stderr


def test_ctrl_c_ends_the_run_with_all_that_it_started(operator: Operator) -> None:
    with serving(delay_ms=2) as (staging, _):
        environ = operator.environ | {"SLIPWAY_PORT_STAGING": staging.rpartition(":")[2]}
        command = [sys.executable, "-m", "pipelines.cli", "loadtest", "--duration", "60"]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr
            next(line for line in running.stderr if line.startswith("look 1: ") and "sent" in line)
            started = psutil.Process(running.pid).children(recursive=True)
            assert len(started) >= 2
            running.send_signal(signal.SIGINT)
            assert "stopped; nothing was judged" in running.stderr.read()
        assert running.returncode == 130
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def test_a_run_that_is_killed_takes_what_it_started_with_it(operator: Operator) -> None:
    with serving(delay_ms=2) as (staging, _):
        environ = operator.environ | {"SLIPWAY_PORT_STAGING": staging.rpartition(":")[2]}
        command = [sys.executable, "-m", "pipelines.cli", "loadtest", "--duration", "60"]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr
            next(line for line in running.stderr if line.startswith("look 1: ") and "sent" in line)
            (run,) = psutil.Process(running.pid).children()
            started = run.children(recursive=True)
            assert started
            run.kill()
            assert "the load run ended with -9" in running.stderr.read()
        assert running.returncode == 4
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def test_a_saturated_generator_is_inconclusive(operator: Operator) -> None:
    with serving(delay_ms=0) as (staging, _):
        done = operator.loadtest("--rate", "12000", staging=staging)
    assert done.returncode == 4
    assert "INCONCLUSIVE: " in done.stdout
    assert "next: lower RATE or add WORKERS" in done.stderr


def test_the_capacity_lies_between_a_rate_that_passed_and_one_that_failed(operator: Operator) -> None:
    # One request after the other, 10 ms each: 100 req/s is the most that it can do for long. The steps of the search,
    # 40, 80 and 160 req/s, lie clear of it: a rate just there may decide nothing.
    with serving(delay_ms=0, block_ms=10) as (staging, _):
        done = operator.loadtest("--find-capacity", "--rate", "40", staging=staging)
    result = operator.result()
    passed, failed = result["highest_passed_per_s"], result["lowest_failed_per_s"]
    assert done.returncode in (0, 4)
    assert 40 <= passed < failed <= 160
    assert result["checks"][0]["message"] in done.stdout
    assert (Path(done.stdout.splitlines()[-1]).parent / "try-1" / "report.html").exists()
