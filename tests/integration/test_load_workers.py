"""A load run whose workers join it, as from other machines: real Locust processes that share nothing but a port."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loadtests.samples import METADATA_KEY
from pipelines.settings.settings import ROOT
from tests.support.servers.servers import free_port
from tests.support.world.load_plans import LIMIT_MS, write_plan

SERVER = ROOT / "tests" / "support" / "servers" / "latency_server.py"
# Wide, because the validity rules scale with it: a busy machine must not decide these tests.
READY_S = 30

pytestmark = pytest.mark.timeout(240)


@contextmanager
def serving(**latency_model: Any) -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(SERVER), json.dumps(latency_model)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@contextmanager
def workers(directory: Path, count: int, port: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start workers in a directory where no plan and no rows are; they have ended, with what they started, after it."""
    directory.mkdir()
    words = ["-m", "loadtests.runner.join", "--master-host", "127.0.0.1", "--master-port", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen([sys.executable, *words], cwd=directory, env=environ, start_new_session=True)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
            process.wait(READY_S)
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
    assert list(directory.iterdir()) == []


def start(directory: Path, host: str, port: int, **changes: Any) -> "subprocess.Popen[str]":
    several = {
        "workers": 2,
        "limits": [{"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True}],
        "max_stall_s": 5.0,
        "join": {"port": port, "wait_s": READY_S},
    }
    plan = write_plan(directory, host, **(several | changes))
    command = [sys.executable, "-m", "loadtests.run", "--plan", str(plan)]
    command += ["--out", str(directory / "out")]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def result_of(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "out" / "result.json").read_text())
    return result


def windows_of(file: Path) -> list[dict[str, float]]:
    windows: list[dict[str, float]] = json.loads(pq.read_schema(file).metadata[METADATA_KEY])
    return windows


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two workers with a comparison, which passed: its directory and its progress."""
    directory, port = tmp_path_factory.mktemp("compared"), free_port()
    comparison = {"expected_version": "5", "blocks": 10, "block_s": 1, "warmup_s": 0.2, "margin": 1.1}
    with (
        serving(delay_ms=2, version="6") as host,
        serving(delay_ms=2, version="5") as other,
        workers(directory / "elsewhere", 2, port),
        start(directory, host, port, comparison={**comparison, "host": other, "tolerance_ms": 1000.0}) as run,
    ):
        _, progress = run.communicate(timeout=200)
        assert run.returncode == 0, progress
    return directory, progress


def test_the_same_workers_serve_every_phase_and_their_raw_values_are_judged_together(
    compared: tuple[Path, str],
) -> None:
    directory, progress = compared
    result, out = result_of(directory), directory / "out"
    names = [f"{phase}-worker{number}.parquet" for phase in ("look1", "blocks1") for number in range(2)]
    # A block that a busy moment disturbed is measured again.
    assert [raw["file"] for raw in result["raw"] if "try" not in raw["file"]] == names
    for raw in result["raw"]:
        assert raw["sha256"] == f"sha256:{hashlib.sha256((out / raw['file']).read_bytes()).hexdigest()}"
    looks = [out / name for name in names[:2]]
    tables = [pq.read_table(file) for file in looks]
    assert result["n"] == sum(int((table["intended_s"].to_numpy() >= 0).sum()) for table in tables)
    assert result["n"] == sum(window["planned"] for file in looks for window in windows_of(file))
    assert 800 < result["n"] < 1200
    # Two halves of the load, each by a schedule of its own.
    assert abs(tables[0].num_rows - tables[1].num_rows) < 150
    assert not set(tables[0]["intended_s"].to_pylist()) & set(tables[1]["intended_s"].to_pylist())
    turns = {(turn, version) for turn, version in _pairs(out / names[3], "turn", "version")}
    assert turns == {(turn, "6" if turn % 4 in (0, 3) else "5") for turn in range(20)}
    assert re.search(r"^look 1: .* sent, 0 errors$", progress, re.MULTILINE)


def _pairs(file: Path, *columns: str) -> Iterator[tuple[Any, ...]]:
    table = pq.read_table(file)
    return zip(*(table[column].to_pylist() for column in columns), strict=True)


def test_each_worker_measures_its_own_empty_endpoint_and_counts_from_its_own_start(compared: tuple[Path, str]) -> None:
    out = compared[0] / "out"
    for number in range(2):
        assert {version for (version,) in _pairs(out / f"control-worker{number}.parquet", "version")} == {"control"}
        (window,) = windows_of(out / f"look1-worker{number}.parquet")
        assert (window["measured_from_s"], window["measured_until_s"]) == (0, pytest.approx(10))
        times = pq.read_table(out / f"look1-worker{number}.parquet")["intended_s"].to_numpy()
        assert -0.5 <= times.min() < 0 < times.max() < 10


def test_a_worker_that_is_lost_in_the_middle_ends_the_run_as_an_error(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(delay_ms=2) as host,
        workers(tmp_path / "elsewhere", 2, port) as (_, lost),
        start(tmp_path, host, port, duration_s=60) as run,
    ):
        until((tmp_path / "out" / "look1.progress").exists)
        os.killpg(lost.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        assert run.wait(60) == 4
        assert time.monotonic() - killed_s < 30

    (check,) = result_of(tmp_path)["checks"]
    assert check["verdict"] == "error"
    assert check["message"].startswith("ERROR: look 1: Locust wrote no raw values (exit code 1): worker ")
    assert " was lost (" in check["message"]


def test_a_worker_that_never_joins_ends_the_run_as_an_error(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(delay_ms=2) as host,
        workers(tmp_path / "elsewhere", 1, port),
        start(tmp_path, host, port, join={"port": port, "wait_s": 8}) as run,
    ):
        assert run.wait(60) == 4

    (check,) = result_of(tmp_path)["checks"]
    assert check["verdict"] == "error"
    assert check["message"].startswith("ERROR: control: Locust wrote no raw values (exit code 1): Gave up waiting")


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
