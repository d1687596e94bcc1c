"""What an operator does to an installation on containers: search it, rotate its secrets, repair, stop, remove it.

It is the one of the tests before, with all that its releases have left.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL, DockerSecrets
from pipelines.adapters.storage.object_store import S3Access, connect
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.operator.demo_model import NAME
from pipelines.wiring.docker import engine_url
from tests.e2e.containers import Containers
from tests.support.containers.engine import FIRST_BUILD_S

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)


@pytest.fixture(scope="module")
def stranger(containers: Containers, engine: docker.DockerClient) -> Iterator[str]:
    """A config with the installation's label that its Terraform does not know."""
    name = "stranger"
    made = engine.api.create_config(name, b"x", labels={PREFIX_LABEL: containers.prefix})["ID"]
    yield name
    if name in containers.left():
        engine.api.remove_config(made)


def test_bringing_it_up_again_changes_nothing(containers: Containers, stranger: str) -> None:
    before = containers.tasks()
    cut_off(containers, "2030-01-01")
    containers.done("up")
    assert containers.tasks() == before
    assert containers.plan() == ""
    # What was there before the run that was cut off is not of its making.
    assert stranger in containers.left()


def test_bringing_it_up_kept_releases_out_and_let_them_in_again(containers: Containers) -> None:
    with httpx.Client(base_url=f"{containers.settings.api_url}/api/v1", trust_env=False) as api:
        token = json.loads((containers.home / "tokens.json").read_text())["alice"]
        headers = {"authorization": f"Bearer {token}"}
        entries = api.get("/audit", headers=headers).json()["entries"]
        mine = [entry for entry in entries if entry["subject"] == entries[-1]["subject"]]
        assert [(entry["action"], entry["phase"]) for entry in mine] == [
            ("maintenance", "intent"),
            ("lease.take", "outcome"),
            ("lease.take", "outcome"),
            ("maintenance.end", "intent"),
            ("maintenance", "outcome"),
        ]
        status = api.get("/status", headers=headers).json()
        assert (status["leases"], status["unfinished"]) == ([], [])


def test_no_secret_is_seen_in_state_plan_specs_containers_or_logs(
    containers: Containers, engine: docker.DockerClient
) -> None:
    work = containers.home / "terraform"
    places = {str(path): path.read_text(errors="replace") for path in work.rglob("*.tf*") if path.is_file()}
    places["progress"] = "\n".join(containers.told)
    places["plan"] = containers.plan()
    api, filters = engine.api, {"label": f"{PREFIX_LABEL}={containers.prefix}"}
    places["specs"] = json.dumps([api.inspect_service(each["ID"]) for each in api.services(filters=filters)])
    places["configs"] = json.dumps(api.configs(filters=filters))
    running = [each for each in api.containers() if each["Names"][0].startswith(f"/{containers.prefix}-")]
    assert len(running) >= 8
    places["containers"] = json.dumps([api.inspect_container(each["Id"]) for each in running])
    places["logs"] = json.dumps(containers.installation().logs(10_000))
    assert any(path.endswith("terraform.tfstate") for path in places)
    values = secret_values(containers)
    assert [(name, value[:4]) for name, text in places.items() for value in values if value in text] == []
    # Nor what a value could be tried against.
    hashes = [hashlib.sha256(value.encode()).hexdigest()[:12] for value in values]
    assert [(name, hashed) for name, text in places.items() for hashed in hashes if hashed in text] == []
    # That the search finds what is there.
    assert containers.prefix in places["specs"] and containers.prefix in places["containers"]


def test_buckets_and_users_are_there_and_a_users_rights_end_at_its_bucket(containers: Containers) -> None:
    client = connect(access(containers, "dvc"))
    client.put_object(Bucket="dvc", Key="k", Body=b"v")
    assert client.get_object(Bucket="dvc", Key="k")["Body"].read() == b"v"
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket="mlflow")


def test_the_registry_of_models_knows_its_users_and_nobody_else(containers: Containers) -> None:
    assert search(containers, None).status_code == 401
    assert search(containers, ("admin", "password1234")).status_code == 401
    found = search(containers, ("reader", containers.installation().secrets.value("mlflow-reader"))).json()
    # The second one was removed from the installation: what is registered stays.
    assert {model["name"] for model in found["registered_models"]} <= {"churn-model", NAME}


def test_a_trainer_moves_no_alias_through_the_edge(containers: Containers) -> None:
    secret = containers.installation().secrets.value
    alias = {"name": "churn-model", "alias": "production", "version": "999"}
    for prefix in ("api", "ajax-api"):
        url = f"{containers.settings.mlflow_url}/{prefix}/2.0/mlflow/registered-models/alias"
        told = {
            user: httpx.post(
                url, json=alias, auth=(user, secret(f"mlflow-{user}")), timeout=30.0, trust_env=False
            ).json()
            for user in ("promoter", "trainer")
        }
        assert told["trainer"]["error_code"] == "PERMISSION_DENIED"
        assert "make promote VERSION=n" in told["trainer"]["message"]
        # There is no such version to point at.
        assert told["promoter"]["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_data_goes_through_the_edge_from_one_clone_to_another(containers: Containers, tmp_path: Path) -> None:
    remote, (here, there) = containers.installation().data_remote(), (tmp_path / "here", tmp_path / "there")
    for project in (here, there):
        project.mkdir()
        command = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
        subprocess.run(command, cwd=project, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
    # Larger than a part of an upload, so that it goes in several.
    (here / "data").write_bytes(secrets.token_bytes(60 << 20))
    subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", "data"], cwd=here, check=True)
    assert remote.push(here, os.environ) == "1 file pushed"
    shutil.copy(here / "data.dvc", there / "data.dvc")
    remote.pull(there, os.environ)
    assert (there / "data").read_bytes() == (here / "data").read_bytes()


def test_the_service_is_offered_to_releases(containers: Containers) -> None:
    tags = httpx.get(
        f"http://127.0.0.1:{containers.settings.images_port}/v2/slipway/app/tags/list", trust_env=False
    ).json()["tags"]
    image = containers.installation()._terraform.variables()["images"]["app"]
    assert tags == [image.removeprefix("sha256:")[:12]]


def test_rotating_all_leaves_the_old_refused_and_everything_working(
    containers: Containers, engine: docker.DockerClient
) -> None:
    store, old_dvc = containers.installation().secrets, access(containers, "dvc")
    serving = containers.health("production")
    names = ("mlflow-reader", "mlflow-admin", "mlflow-database", "postgres", "slipway-database")
    old = {name: store.value(name) for name in names}
    before = engine_secrets(engine, containers)
    containers.done("secrets", "rotate", "all")

    refused = connect(old_dvc)
    with pytest.raises(refused.exceptions.ClientError, match="SignatureDoesNotMatch"):
        refused.list_objects_v2(Bucket="dvc")
    connect(access(containers, "dvc")).list_objects_v2(Bucket="dvc")
    for user in ("admin", "reader"):
        assert search(containers, (user, old[f"mlflow-{user}"])).status_code == 401
        assert search(containers, (user, store.value(f"mlflow-{user}"))).status_code == 200
    for role, name in [("postgres", "postgres"), ("mlflow", "mlflow-database"), ("slipway", "slipway-database")]:
        assert "password authentication failed" in ask_database(engine, containers, role, old[name])
        assert ask_database(engine, containers, role, store.value(name)) == "1"
    after = engine_secrets(engine, containers)
    assert len(after) == len(before)
    assert {re.sub("-[0-9a-f]{12}$", "", name) for name in after & before} == {
        f"{containers.prefix}-{name}"
        for name in ("audit-objects-user", "minio-root-user", "mlflow-objects-user", "mlflow-webhook-key", "owner")
    }
    assert containers.plan() == ""
    assert containers.health("production") == serving


def test_a_port_that_another_installation_has_is_refused_with_the_holder(
    containers: Containers, engine: docker.DockerClient, tmp_path: Path
) -> None:
    other = Containers(tmp_path, engine, SLIPWAY_PORT_STAGING=str(containers.settings.staging_port))
    try:
        ended = other.slipway("up")
        assert ended.returncode == 2
        assert f"by container {containers.prefix}-edge" in ended.stderr
    finally:
        other.remove()


def test_down_keeps_state_and_up_serves_it_again_and_removes_what_a_killed_run_has_left(
    containers: Containers, stranger: str
) -> None:
    before, volumes = containers.health("production"), containers.volumes()
    containers.done("down")
    assert (containers.containers(), containers.tasks()) == ([], set())
    assert containers.volumes() == volumes
    cut_off(containers, "2020-01-01")
    limits = {service: containers.memory_limit(service) for service in ("api", "production-live")}
    for service, limit in limits.items():
        containers.memory_limit(service, by_hand=2 * limit)
    containers.done("up")
    assert {service: containers.memory_limit(service) for service in limits} == limits
    containers.wait_for(lambda: containers.health("production") == before, "production to serve what it had served")
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")
    assert connect(access(containers, "dvc")).get_object(Bucket="dvc", Key="k")["Body"].read() == b"v"
    assert stranger not in containers.left()
    assert containers.plan() == ""


def test_a_backup_is_restored_as_another_installation_that_goes_on(containers: Containers, tmp_path: Path) -> None:
    before = {name: containers.health(name) for name in ("staging", "production")}
    history, file = containers.read("history"), str(tmp_path / "backup")
    assert containers.read("backup", file)["files"] > 20
    used = containers.slipway("restore", file, SLIPWAY_HOME=str(tmp_path / "other"))
    assert (used.returncode, f"the prefix {containers.prefix} is used" in used.stderr) == (2, True), used.stderr
    containers.done("destroy", "--confirm", "yes")
    leave_what_a_cut_off_restore_leaves(containers)
    containers.done("restore", file)
    containers.done("up")
    for name, health in before.items():
        containers.wait_for(lambda name=name, health=health: containers.health(name) == health, f"{name} to serve")
    assert containers.read("history") == history
    proof = containers.read("audit-verify")
    assert proof["valid"], proof
    assert "restore" in [entry["action"] for entry in containers.read("audit", "--limit", "200")["entries"]]
    assert connect(access(containers, "dvc")).get_object(Bucket="dvc", Key="k")["Body"].read() == b"v"
    containers.done("rollback")
    assert containers.health("production")["version"] != before["production"]["version"]
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")
    assert containers.plan() == ""


def test_destroy_leaves_nothing(containers: Containers) -> None:
    containers.done("destroy", "--confirm", "yes")
    assert containers.left() == []
    assert not containers.home.exists()
    told = containers.slipway("logs")
    assert (told.returncode, "nothing runs here" in told.stderr) == (2, True), told


def leave_what_a_cut_off_restore_leaves(containers: Containers) -> None:
    """Leave the mark of a restore into this home in the engine, and a volume that it made."""
    engine = DockerEngine(engine_url(containers.environ))
    DockerSecrets(engine, containers.prefix).note(f"{containers.prefix}-restoring", str(containers.home.resolve()))
    with engine.api() as api:
        api.create_volume(f"{containers.prefix}-postgres", labels={PREFIX_LABEL: containers.prefix})


def cut_off(containers: Containers, day: str) -> None:
    """Leave what a Terraform that was killed on that day leaves."""
    (containers.home / "terraform" / "cut-off").write_text(f"{day}T00:00:00+00:00")


def secret_values(containers: Containers) -> set[str]:
    """Return every value that must be seen nowhere, those before a rotation too."""
    kept = json.loads((containers.home / "secrets.json").read_text())
    tokens = json.loads((containers.home / "tokens.json").read_text())
    return {value for values in kept.values() for value in values} | set(tokens.values())


def access(containers: Containers, client: str) -> S3Access:
    secret = containers.installation().secrets.value
    url = f"http://127.0.0.1:{containers.settings.s3_port}"
    return S3Access(url, secret(f"{client}-objects-user"), secret(f"{client}-objects-password"))


def search(containers: Containers, auth: tuple[str, str] | None) -> httpx.Response:
    path = "api/2.0/mlflow/registered-models/search"
    return httpx.get(f"{containers.settings.mlflow_url}/{path}", auth=auth, timeout=30.0, trust_env=False)


def engine_secrets(engine: docker.DockerClient, containers: Containers) -> set[str]:
    found: list[dict[str, Any]] = engine.api.secrets(filters={"label": f"{PREFIX_LABEL}={containers.prefix}"})
    return {secret["Spec"]["Name"] for secret in found}


def ask_database(engine: docker.DockerClient, containers: Containers, role: str, password: str) -> str:
    """What PostgreSQL answers to a login, asked from inside of its container, which alone can reach it."""
    name = f"{containers.prefix}-postgres."
    container = next(each["Id"] for each in engine.api.containers() if each["Names"][0].startswith(f"/{name}"))
    host = subprocess.run(
        ["docker", "exec", container, "hostname", "-i"], capture_output=True, text=True, check=True
    ).stdout.split()[0]  # fmt: skip
    query = ["psql", "--host", host, "--username", role, "--dbname", role, "--tuples-only", "--no-align"]
    command = ["docker", "exec", "--env", "PGPASSWORD", container, *query, "--command", "SELECT 1"]
    done = subprocess.run(
        command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip()
