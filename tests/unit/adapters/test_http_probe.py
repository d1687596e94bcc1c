"""How long a probe waits for a service that answers late."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.http_probe import HttpProbe
from pipelines.errors import DeployFailed
from tests.support.servers.servers import free_port

SERVER = Path(__file__).resolve().parents[2] / "support" / "servers" / "latency_server.py"


@pytest.fixture(scope="module")
def late() -> Iterator[str]:
    """A service that takes half a second to answer."""
    with subprocess.Popen([sys.executable, str(SERVER), '{"delay_ms": 500}'], stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/predict"
        process.kill()


def test_a_post_waits_as_long_as_it_is_told(late: str) -> None:
    body, kind = json.dumps({"tenure": 1}).encode(), {"Content-Type": "application/json", "Connection": "close"}

    assert HttpProbe(timeout_s=0.1).post(late, body, kind, timeout_s=10).status == 200
    with pytest.raises(DeployFailed, match="does not answer"):
        HttpProbe(timeout_s=10).post(late, body, kind, timeout_s=0.1)
    with pytest.raises(DeployFailed, match="does not answer"):
        HttpProbe(timeout_s=0.1).post(late, body, kind)


def test_a_service_that_is_not_there_is_a_refusal() -> None:
    with pytest.raises(DeployFailed, match="does not answer"):
        HttpProbe().get(f"http://127.0.0.1:{free_port()}/health")
