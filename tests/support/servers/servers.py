"""Servers that tests run for real, each with a home of its own and on a free port.

`mlflow_uri` is a fixture for every test: one MLflow for all processes that test side by side. Who needs it first starts
it, and `end_shared_servers` ends it when all of them have ended.
"""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

READY_DEADLINE_S = 120.0
ENDS_WITHIN_S = 20.0
# Below those that Linux hands out by itself, so what was stopped finds its port again.
OURS = range(10_000, 32_000)
# Names a directory that all test processes of a session share.
_SHARED = "SLIPWAY_TEST_SERVERS"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that the system gives nobody who asks for any port."""
    while True:
        port = random.SystemRandom().choice(OURS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def share_servers() -> None:
    """Make the directory whereby the test processes that are about to start find the servers of each other."""
    os.environ[_SHARED] = tempfile.mkdtemp(prefix="slipway-test-servers-")


def end_shared_servers() -> None:
    """End the servers that any test process has started, and remove their files."""
    home = Path(os.environ[_SHARED])
    for record in home.glob("*.json"):
        _end(json.loads(record.read_text())["pid"])
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def mlflow_uri() -> str:
    """Address of the one MLflow server; its experiments and models are everybody's."""
    home = Path(os.environ[_SHARED])
    record = home / "mlflow.json"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            pid, uri = _start_mlflow(home)
            record.write_text(json.dumps({"pid": pid, "uri": uri}))
        return str(json.loads(record.read_text())["uri"])


def _start_mlflow(home: Path) -> tuple[int, str]:
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
    except BaseException:
        _end(process.pid)
        raise
    # It may outlive this process: whoever ends it knows its number only.
    process.returncode = 0
    return process.pid, f"http://{address}"


def _end(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        server = psutil.Process(pid)
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(ENDS_WITHIN_S)
        except psutil.TimeoutExpired:
            # The session is this server's alone.
            os.killpg(pid, signal.SIGKILL)
            server.wait(ENDS_WITHIN_S)


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
