"""The edge's configuration as Terraform renders it, and what the real HAProxy says to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.containers.engine import FIRST_BUILD_S
from tests.terraform.conftest import Planned

SLOTS = ("live", "trial", "baseline")
ENVIRONMENTS = {"production": 2, "staging": 1}
NETWORKS = ["control", "publish-edge", "s3", *ENVIRONMENTS, *(f"load-{name}" for name in ENVIRONMENTS)]
SECRET = {"id": "s" * 25, "name": "any"}
VARIABLES: dict[str, Any] = {
    "image": f"sha256:{'0' * 64}",
    "environments": {
        name: {"replicas": replicas, "services": {slot: f"slipway-{name}-{slot}" for slot in SLOTS}}
        for name, replicas in ENVIRONMENTS.items()
    },
    "networks": {name: {"id": name, "subnet": f"10.0.{number}.0/24"} for number, name in enumerate(NETWORKS)},
    "upstreams": {"api": "slipway-api:8080", "mlflow": "slipway-mlflow:5000", "s3": "slipway-minio:9000"},
}


def with_models(*names: str) -> dict[str, Any]:
    """Return the variables of an edge with these models beside the default one."""
    further = {
        name: {
            "key": f"key-{number}",
            "number": number,
            "environments": {
                each: {
                    "replicas": replicas,
                    "services": {slot: f"slipway-{each}-key-{number}-{slot}" for slot in SLOTS},
                }
                for each, replicas in ENVIRONMENTS.items()
            },
        }
        for number, name in enumerate(names, 1)
    }
    return {"model": "churn-model", "models": further}


# Its name is what names may be.
MODELS = with_models("Tenure.Model_2")
# As many as there may be, with names as long as they may be.
MOST = with_models(*(f"m{number:0>127}" for number in range(49)))
EXPOSED = {"bind_address": "0.0.0.0", "tls": {"certificate": SECRET, "key": SECRET}}


@pytest.fixture
def render(planned: Planned) -> Callable[..., str]:
    """Return the configuration that the carrier would bring into the volume, with these variables changed."""

    def once(**changed: Any) -> str:
        resources = planned("modules/edge", **(VARIABLES | changed))
        content: str = resources["docker_container.config"]["upload"][0]["content"]
        return content

    return once


@pytest.mark.timeout(FIRST_BUILD_S)
@pytest.mark.parametrize("models", [{}, MODELS, MOST], ids=["one model", "two models", "as many as may be"])
@pytest.mark.parametrize("exposed", [False, True], ids=["on loopback", "with tls"])
def test_haproxy_takes_the_configuration(
    exposed: bool,
    models: dict[str, Any],
    *,
    render: Callable[..., str],
    engine: docker.DockerClient,
    images: dict[str, str],
    tmp_path: Path,
) -> None:
    config = render(**models, **(EXPOSED if exposed else {}))
    assert ("use_backend production.key-1" in config) is bool(models)
    # The certificate is a secret that only a running service has.
    config = config.replace(" ssl crt /run/secrets/tls.pem", " ssl crt /etc/haproxy/none strict-sni" if exposed else "")
    assert ("strict-sni" in config) is exposed
    place = tmp_path / "etc"
    (place / "none").mkdir(parents=True)
    (place / "haproxy.cfg").write_text(config)

    said = engine.containers.run(
        images["edge"],
        ["haproxy", "-c", "-V", "-f", "/etc/haproxy/haproxy.cfg"],
        network_mode="none",
        read_only=True,
        remove=True,
        stderr=True,
        tmpfs={"/run/haproxy": "mode=0700,uid=10001,gid=10001"},
        volumes={str(place): {"bind": "/etc/haproxy", "mode": "ro"}},
    )

    assert "Configuration file is valid" in said.decode()
