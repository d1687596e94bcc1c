"""Who must not get where: strangers, replicas and services of an installation that serves, each tried with what it has.

It is the one of the tests before. The addresses are those that the engine gave, so that no name has to resolve.
"""

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from typing import Any

import docker
import httpx
import pytest

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.storage.object_store import S3Access, connect
from tests.e2e.containers import Containers
from tests.support.containers.elsewhere import outer_address
from tests.support.containers.engine import FIRST_BUILD_S
from tests.support.containers.needs import skip_without_containers

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

# What listens inside: replicas and the edge's environments, API, MLflow, S3, load fronts, its health, PostgreSQL.
PORTS = (8000, 8001, 8080, 5000, 9000, 8100, 8101, 8404, 5432)
# Of the machine: the engine over TCP, a shell, and where clouds tell machines their credentials.
OUTSIDE = (("169.254.169.254", 80), ("192.0.2.1", 443))
HOST_PORTS = (22, 2375, 2376, 2377, 7946)
_CAPPED_LOGS = {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
# Bash asks for HTTP and says who answers; nothing else is in every image.
_TRY = """
for place in "$@"; do
  ( exec 3<>"/dev/tcp/${place%:*}/${place#*:}" && echo "open $place"
    printf 'GET /ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -n 1 -t 2 -u 3 && echo "answers $place" ) 2>/dev/null &
done
sleep 4
"""


@dataclass(frozen=True)
class Running:
    """A container of the installation: the service's name without prefix, and its address on each network."""

    id: str
    service: str
    addresses: dict[str, str]
    inspected: dict[str, Any]


def running(containers: Containers, engine: docker.DockerClient) -> list[Running]:
    """Return all that runs."""
    found = []
    for each in engine.api.containers():
        name = each["Names"][0].removeprefix(f"/{containers.prefix}-")
        if name != each["Names"][0]:
            inspected = engine.api.inspect_container(each["Id"])
            networks = inspected["NetworkSettings"]["Networks"].items()
            on = {
                network.removeprefix(f"{containers.prefix}-"): str(place["IPAddress"])
                for network, place in networks
                if place["IPAddress"]
            }
            found.append(Running(str(each["Id"]), name.partition(".")[0], on, inspected))
    return found


def run_inside(engine: docker.DockerClient, container: str, *command: str) -> tuple[int, str]:
    """Run a command in a container; return its exit status and all that it wrote."""
    run = engine.api.exec_create(container, list(command))["Id"]
    told = engine.api.exec_start(run).decode(errors="replace")
    return int(engine.api.exec_inspect(run)["ExitCode"]), told


def test_nothing_is_published_but_the_edge_and_the_image_registry_and_on_loopback_alone(
    containers: Containers, engine: docker.DockerClient
) -> None:
    published = {
        (each["Names"][0].lstrip("/"), port["IP"], port["PublicPort"])
        for each in engine.api.containers()
        if each["Names"][0].startswith(f"/{containers.prefix}-")
        for port in each.get("Ports") or []
        if port.get("PublicPort")
    }
    assert {name for name, _, _ in published} == {f"{containers.prefix}-edge", f"{containers.prefix}-images"}
    assert {address for _, address, _ in published} == {"127.0.0.1"}
    assert len(published) == 6
    services = engine.api.services(filters={"label": f"{PREFIX_LABEL}={containers.prefix}"})
    assert [each["Spec"]["Name"] for each in services if each["Spec"].get("EndpointSpec", {}).get("Ports")] == []
    for _, _, port in published:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{outer_address(engine)}:{port}/", timeout=2, trust_env=False)


@pytest.mark.parametrize("network", ["production", "database"])
def test_a_datagram_that_a_stranger_made_for_a_network_is_dropped(
    network: str, containers: Containers, engine: docker.DockerClient
) -> None:
    if os.geteuid():
        skip_without_containers("only root may read the kernel's counters")
    options = engine.api.inspect_network(f"{containers.prefix}-{network}")["Options"]
    assert "encrypted" in options
    number = int(options["com.docker.network.driver.overlay.vxlanid_list"])

    def dropped() -> int:
        rules = subprocess.run(["iptables", "-vnxL", "INPUT"], capture_output=True, text=True, check=True).stdout
        (rule,) = [line for line in rules.splitlines() if f"=0x{number << 8:x}" in line and " DROP " in line]
        return int(rule.split()[0])

    before = dropped()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        # A VXLAN header, and what would be a frame for a container.
        stranger.sendto(
            bytes([8, 0, 0, 0]) + (number << 8).to_bytes(4, "big") + bytes(60), (outer_address(engine), 4789)
        )
    assert dropped() == before + 1


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_replica_reaches_its_own_environment_and_nothing_else(
    environment: str, containers: Containers, engine: docker.DockerClient
) -> None:
    everything = running(containers, engine)
    (replica, *_) = [each for each in everything if each.service == f"{environment}-live"]
    assert list(replica.addresses) == [environment]
    places = {
        f"{address}:{port}": (each.service, network)
        for each in everything
        for network, address in each.addresses.items()
        for port in PORTS
    }
    assert {"postgres", "mlflow", "minio", "api", "executor", "images"} <= {service for service, _ in places.values()}
    outside = {f"{address}:{port}": ("outside", "") for address, port in OUTSIDE}
    outside |= {f"{outer_address(engine)}:{port}": ("host", "") for port in (*HOST_PORTS, containers.settings.api_port)}
    _, told = run_inside(engine, replica.id, "bash", "-c", _TRY, "bash", *places, *outside)
    seen = [line.split() for line in told.splitlines()]
    reached = {(word, *(places | outside)[place]) for word, place in seen if place in places | outside}
    # It may connect to the edge, which answers nobody from inside.
    own = {(f"{environment}-{slot}", environment) for slot in ("live", "trial", "baseline")}
    answered = {each[1:] for each in reached if each[0] == "answers"}
    assert (f"{environment}-live", environment) in answered and answered <= own
    assert {each[1:] for each in reached} <= own | {("edge", environment)}


def test_a_replica_holds_no_credential_and_no_socket(containers: Containers, engine: docker.DockerClient) -> None:
    replicas = [each for each in running(containers, engine) if each.service.endswith("-live")]
    assert len(replicas) >= 2
    for replica in replicas:
        assert [mount for mount in replica.inspected["Mounts"] if mount["Type"] != "tmpfs"] == []
        code, told = run_inside(engine, replica.id, "bash", "-c", "ls /run/secrets /var/run/docker.sock")
        assert code != 0 and "No such file" in told
        names = {line.partition("=")[0] for line in replica.inspected["Config"]["Env"]}
        assert names <= {
            *("PATH", "PYTHONUNBUFFERED", "SLIPWAY_STAGE", "SLIPWAY_BUNDLE_DIR", "SLIPWAY_BUNDLE_DIGEST"),
            *("SLIPWAY_MODEL", "SLIPWAY_VERSION", "SLIPWAY_RELEASE", "SLIPWAY_SAMPLED_BY"),
        }


def test_every_container_is_confined(containers: Containers, engine: docker.DockerClient) -> None:
    loose = {}
    everything = running(containers, engine)
    for each in everything:
        host, user = each.inspected["HostConfig"], each.inspected["Config"]["User"]
        _, status = run_inside(engine, each.id, "cat", "/proc/1/status")
        kernel = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        faults = {
            "root": user.split(":")[0] in ("", "0", "root") or kernel["Uid"].split()[0] == "0",
            "writable": not host["ReadonlyRootfs"],
            "capability": host["CapDrop"] != ["ALL"] or bool(host["CapAdd"]) or int(kernel["CapEff"], 16) != 0,
            "privileged": host["Privileged"] or kernel["NoNewPrivs"].strip() != "1",
            "memory": not host["Memory"],
            "logs": host["LogConfig"] != _CAPPED_LOGS,
            "cpu": not (host["NanoCpus"] or host["CpuQuota"]),
            "socket": each.service != "executor"
            and any("docker.sock" in mount["Source"] for mount in each.inspected["Mounts"] if "Source" in mount),
        }
        loose[each.service] = [fault for fault, found in faults.items() if found]
    assert {service: faults for service, faults in loose.items() if faults} == {}
    assert len(everything) >= 9


def test_nobody_keeps_the_login_of_the_tables_owner(containers: Containers, engine: docker.DockerClient) -> None:
    readers: dict[str, set[str]] = {}
    for service in engine.api.services(filters={"label": f"{PREFIX_LABEL}={containers.prefix}"}):
        spec = service["Spec"]["TaskTemplate"]["ContainerSpec"]
        for secret in spec.get("Secrets") or []:
            readers.setdefault(secret["File"]["Name"], set()).add(
                service["Spec"]["Name"].removeprefix(f"{containers.prefix}-")
            )
    assert readers["slipway-owner"] == {"postgres", "tables"}
    assert readers["postgres"] == {"postgres"}
    assert readers["slipway-database"] == {"postgres", "api", "executor"}
    assert readers["workflows-database"] == {"postgres", "executor"}
    assert containers.running("tables") == set()
    tasks = engine.api.tasks(filters={"service": f"{containers.prefix}-tables"})
    assert {task["Status"]["State"] for task in tasks} == {"complete"}


@pytest.mark.parametrize("role", ["slipway", "workflows", "mlflow"])
def test_a_database_role_enters_its_own_database_alone(
    role: str, containers: Containers, engine: docker.DockerClient
) -> None:
    password = containers.installation().secrets.value(f"{role}-database")
    for database in ("slipway", "workflows", "mlflow", "template1"):
        told = ask(containers, engine, role, password, database)
        assert told == "1" if database == role else "permission denied for database" in told


@pytest.mark.parametrize("password", ["postgres", "slipway", "password", ""])
def test_no_database_login_is_one_that_can_be_guessed(
    password: str, containers: Containers, engine: docker.DockerClient
) -> None:
    for role in ("postgres", "slipway", "slipway-owner"):
        told = ask(containers, engine, role, password, "slipway")
        assert "password authentication failed" in told or "no password supplied" in told


@pytest.mark.parametrize("login", [("admin", "password1234"), ("admin", "admin"), ("admin", "password"), ("", "")])
def test_the_model_registry_knows_no_login_that_it_comes_with(login: tuple[str, str], containers: Containers) -> None:
    url = f"{containers.settings.mlflow_url}/api/2.0/mlflow/registered-models/search"
    assert httpx.get(url, auth=login, timeout=30.0, trust_env=False).status_code == 401


@pytest.mark.parametrize("login", [("minioadmin", "minioadmin"), ("minio", "minio123"), ("admin", "password")])
def test_the_object_store_knows_no_login_that_it_comes_with(login: tuple[str, str], containers: Containers) -> None:
    client = connect(S3Access(f"http://127.0.0.1:{containers.settings.s3_port}", *login))
    with pytest.raises(client.exceptions.ClientError, match="InvalidAccessKeyId"):
        client.list_buckets()


def test_a_moved_tag_changes_nothing_that_serves(containers: Containers, engine: docker.DockerClient) -> None:
    before, image = containers.health("production"), containers.image("production-live")
    registry = f"http://127.0.0.1:{containers.settings.images_port}/v2/slipway"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    with httpx.Client(headers={"Accept": kind}, trust_env=False) as client:
        tags = client.get(f"{registry}/release/tags/list").json()["tags"]
        manifests = {tag: client.get(f"{registry}/release/manifests/{tag}") for tag in tags}
        assert len({each.content for each in manifests.values()}) > 1
        # Every tag of a release leads to another's image from now on.
        for tag, other in zip(tags, [*tags[1:], tags[0]], strict=True):
            body, head = manifests[other].content, {"Content-Type": manifests[other].headers["content-type"]}
            assert client.put(f"{registry}/release/manifests/{tag}", content=body, headers=head).status_code == 201
    known = containers.running("production-live")
    containers.kill_one("production-live")
    containers.wait_for(lambda: len(containers.running("production-live") - known) == 1, "a new replica")
    assert containers.health("production") == before
    assert containers.image("production-live") == image
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")


def ask(containers: Containers, engine: docker.DockerClient, role: str, password: str, database: str) -> str:
    """What PostgreSQL answers to a login over the network, asked from inside of its container."""
    (server,) = [each for each in running(containers, engine) if each.service == "postgres"]
    host = server.addresses["database"]
    query = ["psql", "--host", host, "--username", role, "--dbname", database, "--tuples-only", "--no-align"]
    run = engine.api.exec_create(
        server.id, [*query, "--no-password", "--command", "SELECT 1"], environment={"PGPASSWORD": password}
    )["Id"]
    return str(engine.api.exec_start(run).decode(errors="replace").strip())


def test_no_image_holds_a_secret(containers: Containers, engine: docker.DockerClient) -> None:
    kept = json.loads((containers.home / "secrets.json").read_text())
    values = {value for each in kept.values() for value in each}
    images = {each.inspected["Image"] for each in running(containers, engine)}
    told = json.dumps([[engine.api.inspect_image(image), engine.api.history(image)] for image in images])
    assert [value[:4] for value in values if value in told] == []
