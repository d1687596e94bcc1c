"""Beyond loopback: the real edge and image registry as Terraform describes them, with a certificate made here."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.containers.tls_secrets import TlsSecrets
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable, UsageError
from pipelines.settings.binding import Binding
from tests.support.containers.engine import ENGINE_URL, FIRST_BUILD_S, hardened, in_network, make_volume, run_to_end
from tests.terraform.conftest import Planned
from tests.terraform.test_edge_configuration import EXPOSED, SECRET, VARIABLES

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

NAME, PORT = "ml.example.com", 5001
REGISTRY = {
    "bind_address": "0.0.0.0",
    "hostname": NAME,
    "image": f"sha256:{'0' * 64}",
    "networks": {"images": "images", "publish-images": "publish-images"},
    "port": PORT,
    "tls": {"certificate": SECRET, "key": SECRET, "registry_users": SECRET},
}
# The names that Terraform gives them in the containers.
FILES = {"tls.pem": "tls-certificate", "tls.pem.key": "tls-key", "registry-users": "registry-users"}

Written = Callable[..., dict[str | Path, str]]


@pytest.fixture
def tls(tmp_path: Path) -> TlsSecrets:
    (tmp_path / "tokens.json").write_text("{}")
    store = SecretStore(tmp_path / "secrets.json", tmp_path / "tokens.json")
    store.make_missing()
    binding = Binding(address="0.0.0.0", external_url=f"https://{NAME}", generate=True)
    return TlsSecrets(binding, f"{NAME}:{PORT}", store, tmp_path / "ca.crt", now=lambda: datetime.now(UTC))


@pytest.fixture
def secrets(tls: TlsSecrets, tmp_path: Path) -> Written:
    """Write what is mounted, each under its name in a container; return the mapping for `volumes`."""

    def written(place: str, **files: str) -> dict[str | Path, str]:
        directory, mounted = tmp_path / place, tls.mounted()
        directory.mkdir()
        for name, secret in files.items():
            (directory / name).write_text(mounted[secret])
            (directory / name).chmod(0o444)
        return {directory: "/run/secrets"}

    return written


@pytest.fixture
def edge(planned: Planned, images: dict[str, str], secrets: Written, tmp_path: Path) -> Iterator[DockerContainer]:
    """The edge, with nothing behind it."""
    resources = planned("modules/edge", **VARIABLES, **EXPOSED)
    place = tmp_path / "etc"
    place.mkdir()
    (place / "haproxy.cfg").write_text(resources["docker_container.config"]["upload"][0]["content"])
    volumes = {place: "/etc/haproxy", **secrets("edge", **FILES)}
    described = hardened(images["edge"], port=8000, volumes=volumes)
    with described.with_tmpfs_mount("/run/haproxy", "mode=0700,uid=10001,gid=10001") as running:
        yield running


@pytest.fixture
def registry(
    planned: Planned,
    engine: docker.DockerClient,
    images: dict[str, str],
    network: Network,
    secrets: Written,
) -> Iterator[DockerContainer]:
    """The image registry, found by its name in `network`."""
    resources = planned("modules/image_registry", **REGISTRY)
    container = resources["module.service[0].docker_service.service"]["task_spec"][0]["container_spec"][0]
    described = hardened(
        images["image_registry"],
        port=PORT,
        env=container["env"],
        volumes=secrets("registry", **FILES),
        data=make_volume(engine),
        healthcheck={"test": container["healthcheck"][0]["test"], "interval": 1_000_000_000},
    )
    with in_network(described, network, NAME) as running:
        yield running


def ask(container: DockerContainer, port: int, path: str, trusted: Path | None, **options: Any) -> httpx.Response:
    """Ask a container's port as a client that knows it by its name, over TLS and trusting one authority."""
    context = ssl.create_default_context(cafile=trusted)
    url = f"https://127.0.0.1:{container.get_exposed_port(port)}{path}"
    with httpx.Client(verify=context, trust_env=False, timeout=10.0) as client:
        return client.get(url, headers={"host": NAME}, extensions={"sni_hostname": NAME}, **options)


def test_the_edge_answers_over_tls_to_who_trusts_the_made_authority(edge: DockerContainer, tmp_path: Path) -> None:
    answer = ask(edge, 8000, "/health", tmp_path / "ca.crt")
    assert (answer.status_code, answer.json()) == (503, {"error": {"code": "no_replica"}})
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        ask(edge, 8000, "/health", None)


def test_the_edge_says_nothing_without_tls(edge: DockerContainer) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        httpx.get(f"http://127.0.0.1:{edge.get_exposed_port(8000)}/health", trust_env=False)


def test_the_image_registry_takes_its_own_login_over_tls_and_nothing_else(
    registry: DockerContainer, tls: TlsSecrets, tmp_path: Path
) -> None:
    login = tls.login()
    assert login is not None
    trusted = tmp_path / "ca.crt"
    assert ask(registry, PORT, "/v2/", trusted).status_code == 401
    assert ask(registry, PORT, "/v2/", trusted, auth=(login[0], "another")).status_code == 401
    assert ask(registry, PORT, "/v2/", trusted, auth=login).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        ask(registry, PORT, "/v2/", None, auth=login)
    plain = httpx.get(f"http://127.0.0.1:{registry.get_exposed_port(PORT)}/v2/", auth=login, trust_env=False)
    assert (plain.status_code, "HTTPS server" in plain.text) == (400, True)


def test_an_engine_pushes_and_pulls_by_the_login_it_was_given(
    registry: DockerContainer, images: dict[str, str], tls: TlsSecrets
) -> None:
    login = tls.login()
    assert login is not None
    # An engine takes any certificate on loopback.
    address = f"127.0.0.1:{registry.get_exposed_port(PORT)}"
    image, known = images["edge"], DockerEngine(ENGINE_URL, 120.0)
    with pytest.raises(TargetUnavailable, match=r"401|unauthorized|incorrect"):
        known.log_in(address, login[0], "another", authority=None)
    known.log_in(address, *login, authority=None)
    pushed = known.push(image, f"{address}/slipway/edge")
    pulled, tag = f"{address}/slipway/edge", image.rpartition(":")[2][:12]
    with pytest.raises(TargetUnavailable), DockerEngine(ENGINE_URL).api() as api:
        api.pull(pulled, tag)
    with known.api() as api:
        assert "Status:" in api.pull(pulled, tag)
        assert pushed in api.inspect_image(f"{pulled}:{tag}")["RepoDigests"]
        api.remove_image(f"{pulled}:{tag}", noprune=True)


def test_an_engine_that_does_not_trust_the_registry_is_told_what_it_lacks(
    registry: DockerContainer, tls: TlsSecrets
) -> None:
    login = tls.login()
    assert login is not None
    networks = registry.get_wrapped_container().attrs["NetworkSettings"]["Networks"].values()
    address = f"{next(iter(networks))['IPAddress']}:{PORT}"
    with pytest.raises(UsageError, match=f"does not trust the image registry {address}") as refused:
        DockerEngine(ENGINE_URL).log_in(address, *login, authority=Path("/some/ca.crt"))
    assert f"copy /some/ca.crt to /etc/docker/certs.d/{address}/ca.crt" in refused.value.next


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"DOCKER_CONFIG": "/run/secrets", "SSL_CERT_FILE": "/run/secrets/ca.pem"}, ""),
        ({"SSL_CERT_FILE": "/run/secrets/ca.pem"}, "401 Unauthorized"),
        ({"DOCKER_CONFIG": "/run/secrets"}, "certificate signed by unknown authority"),
    ],
    ids=["as the executor", "without the login", "without the authority"],
)
def test_crane_pushes_with_what_the_executor_has_and_not_without(
    environ: dict[str, str],
    why: str,
    images: dict[str, str],
    network: Network,
    secrets: Written,
) -> None:
    files = secrets("executor", **{"ca.pem": "ca.pem", "config.json": "config.json"})
    push = ["append", "--new_layer", "/run/secrets/layer.tar", "--new_tag", f"{NAME}:{PORT}/release:v1"]
    empty_tar = bytes(10_240)
    (Path(next(iter(files))) / "layer.tar").write_bytes(empty_tar)
    crane = hardened(images["control"], env=environ, volumes=files, healthy=False, entrypoint="crane")
    code, said = run_to_end(in_network(crane.with_command(push), network, "executor"))
    assert why in said, said
    assert (code == 0) is (not why), said
