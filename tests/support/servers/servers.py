"""Servers that tests run for real, each with a home of its own and on a free port.

`mlflow_uri` is a fixture for every test: one MLflow a session.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_DEADLINE_S = 120.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_mlflow(home: Path) -> Iterator[str]:
    """Run an MLflow server on SQLite with its files in `home`; yield its address, then end it."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--allowed-hosts", f"{address},localhost:{port}"),
        *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
        *("--artifacts-destination", str(home / "artifacts"), "--serve-artifacts"),
    ]
    log = home / "mlflow.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await_http(f"http://{address}/health", process, log)
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20.0)
        except subprocess.TimeoutExpired:
            # The session is this server's alone.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20.0)


def await_http(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until `url` answers 200, or fail with the last status and the end of the log."""
    deadline = time.monotonic() + READY_DEADLINE_S
    last = "not asked"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2.0) as answer:
                last = str(answer.status)
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:
            last = repr(error)
        time.sleep(0.1)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise AssertionError(f"{url} is not ready: {last}, exit code {process.poll()}\n{tail}")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the session's MLflow server."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri
