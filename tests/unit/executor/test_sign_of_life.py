"""The file that an executor touches while it works, as the health check of its container looks at it."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.settings.runtime import Login, Runtime
from pipelines.settings.settings import ROOT, Settings
from pipelines.wiring import docker
from pipelines.wiring.stores import open_records
from tests.support.world.executors import frozen_with_lock
from tests.support.world.stacks import stack

RUNTIME = Runtime(
    stack=stack("none"),
    mlflow_url="http://127.0.0.1:1",
    mlflow=Login("promoter", ""),
    objects=Login("audit", ""),
    databases={},
    tokens_file=Path("/nowhere"),
)


def is_healthy(file: Path, *, within_s: int) -> bool:
    """Run the executor's health check of infra/, told of another file and time."""
    told = re.search(r'\["CMD-SHELL", "(.*executor-lives.*)"\]', (ROOT / "infra/modules/control/main.tf").read_text())
    assert told
    command = told[1].replace('\\"', '"').replace("/tmp/executor-lives", str(file)).replace("30 sec", f"{within_s} sec")
    return subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True).returncode == 0


def await_health(file: Path, healthy: bool) -> None:
    deadline = time.monotonic() + 60.0
    while is_healthy(file, within_s=3) is not healthy:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_executor_is_healthy_while_it_works_and_not_while_it_is_frozen(tmp_path: Path) -> None:
    life = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)}).sign_of_life
    assert not is_healthy(life, within_s=3)
    command, environ = (
        [sys.executable, "-m", "pipelines.cli", "executor"],
        {**os.environ, "SLIPWAY_HOME": str(tmp_path)},
    )
    with subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr and any(" is ready" in line for line in process.stderr)
            await_health(life, True)
            process.send_signal(signal.SIGSTOP)
            await_health(life, False)
            process.send_signal(signal.SIGCONT)
            await_health(life, True)
        finally:
            process.kill()


def test_an_executor_beside_one_that_was_frozen_with_the_journals_lock_ends_it_and_takes_over(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)})
    records = open_records(settings)
    with frozen_with_lock(tmp_path / "workflows.db", records) as holder:
        command, environ = (
            [sys.executable, "-m", "pipelines.cli", "executor"],
            {**os.environ, "SLIPWAY_HOME": str(tmp_path)},
        )
        with subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr
                told = next(line for line in process.stderr if "nothing is gone on with yet" in line)
                assert "the journal of workflows can't be used: database is locked" in told
                assert f"executor frozen, process {holder.pid}, is frozen and was ended" in told
                assert any(" is ready" in line for line in process.stderr)
            finally:
                process.kill()
    records.close()


def test_in_a_container_it_is_the_file_that_the_health_check_looks_at(tmp_path: Path) -> None:
    inside = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)})
    path = str(replace(inside, runtime=RUNTIME).sign_of_life)
    assert f"find {path} " in (ROOT / "infra/modules/control/main.tf").read_text()


class Enough(Exception):
    pass


def test_an_executor_that_waits_for_the_apps_image_shows_that_it_lives(tmp_path: Path) -> None:
    shown: list[float] = []

    def show_life() -> None:
        shown.append(time.monotonic())
        if len(shown) == 3:
            raise Enough

    with pytest.raises(Enough):
        docker.await_target(replace(Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)}), runtime=RUNTIME), show_life)
    assert shown[2] - shown[0] < 20.0
