"""The installation on containers from the operator's side: brought up, looked through for secrets, rotated, repaired.

One installation a module, with a prefix, a home and ports of its own; whatever happens, it is removed by its label.
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
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL, DockerSecrets
from pipelines.adapters.containers.executor_inside import ExecutorInside
from pipelines.adapters.containers.maintenance_hold import MaintenanceHold
from pipelines.adapters.containers.swarm_installation import InstallationOptions, SwarmInstallation
from pipelines.adapters.containers.terraform import Terraform, find_settings
from pipelines.adapters.storage.object_store import S3Access, connect
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.api.client import ApiClient, executor_silence
from pipelines.errors import PortTaken
from pipelines.settings.settings import ROOT, Settings
from pipelines.settings.tokens import make_tokens
from tests.support.containers.engine import FIRST_BUILD_S, left_of
from tests.support.containers.needs import skip_without_containers
from tests.support.servers.servers import free_port

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
PORTS = ("api", "images", "mlflow", "production", "s3", "staging")


class Operator:
    """An operator with an installation of one test module."""

    def __init__(self, home: Path, images: dict[str, str]) -> None:
        self.home = home
        self.prefix = f"test-{secrets.token_hex(3)}"
        self.ports = {name: free_port() for name in PORTS}
        self.told: list[str] = []
        make_tokens(home / "tokens.json")
        self._images = images

    def stack(self) -> SwarmInstallation:
        options = InstallationOptions(
            model="churn-model",
            model_file=ROOT / "model.yaml",
            ports=self.ports,
            prefix=self.prefix,
            engine_url=ENGINE,
            retention_days=1,
        )
        work = self.home / "terraform"
        terraform = Terraform(ROOT / "infra", work, os.environ, find_settings(os.environ, ROOT))
        executor = ExecutorInside(DockerEngine(ENGINE), self.prefix)
        hold = MaintenanceHold(
            partial(ApiClient, self.settings),
            executor_silence,
            self.settings.home,
            self.settings.tokens_file,
            work=executor.work,
        )
        return SwarmInstallation(options, self.home, terraform, lambda report_progress: self._images, hold=hold)

    @property
    def settings(self) -> Settings:
        ports = {f"SLIPWAY_PORT_{name.upper()}": str(port) for name, port in self.ports.items()}
        return Settings.from_environ({"TARGET": "docker", "SLIPWAY_HOME": str(self.home), **ports})

    def up(self) -> None:
        self.stack().up(self.told.append)

    def cut_off(self, day: str) -> None:
        """Leave what a Terraform that was killed on that day leaves."""
        (self.home / "terraform" / "cut-off").write_text(f"{day}T00:00:00+00:00")

    def values(self) -> set[str]:
        """Every value that must be seen nowhere, those before a rotation too."""
        kept = json.loads((self.home / "secrets.json").read_text())
        tokens = json.loads((self.home / "tokens.json").read_text())
        return {value for values in kept.values() for value in values} | set(tokens.values())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def left(self, engine: docker.DockerClient) -> list[str]:
        """The names of all in the engine that carries the label."""
        return left_of(engine, self.prefix)


@pytest.fixture(scope="module")
def operator(
    engine: docker.DockerClient, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator whose installation is up."""
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the engine is in no swarm")
    if not shutil.which("terraform"):
        skip_without_containers("no terraform on the path")
    made = Operator(tmp_path_factory.mktemp("operator"), images)
    try:
        made.up()
        yield made
    finally:
        EngineParts(DockerEngine(ENGINE, 120.0), made.prefix).remove_all()
        DockerSecrets(DockerEngine(ENGINE), made.prefix).remove_others(())


def test_all_answers_and_an_environment_without_a_release_says_so(operator: Operator) -> None:
    for environment in ("staging", "production"):
        health = httpx.get(f"{operator.url(environment)}/health", trust_env=False).json()
        assert health["status"] == "no release"
    assert httpx.get(f"{operator.url('api')}/health", trust_env=False).status_code == 200


@pytest.fixture(scope="module")
def stranger(operator: Operator, engine: docker.DockerClient) -> Iterator[str]:
    """A config with the installation's label that its Terraform does not know."""
    name = "stranger"
    made = engine.api.create_config(name, b"x", labels={PREFIX_LABEL: operator.prefix})["ID"]
    yield name
    if name in operator.left(engine):
        engine.api.remove_config(made)


def test_bringing_it_up_again_changes_nothing(operator: Operator, engine: docker.DockerClient, stranger: str) -> None:
    before = tasks_of(engine, operator)
    operator.cut_off("2030-01-01")
    operator.up()
    assert tasks_of(engine, operator) == before
    assert operator.stack().plan() == ""
    # What was there before the run that was cut off is not of its making.
    assert stranger in operator.left(engine)


def test_bringing_it_up_kept_releases_out_and_let_them_in_again(operator: Operator) -> None:
    with httpx.Client(base_url=f"{operator.url('api')}/api/v1", trust_env=False) as api:
        token = json.loads((operator.home / "tokens.json").read_text())["alice"]
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
    operator: Operator, engine: docker.DockerClient
) -> None:
    work = operator.home / "terraform"
    places = {str(path): path.read_text(errors="replace") for path in work.rglob("*.tf*") if path.is_file()}
    places["progress"] = "\n".join(operator.told)
    places["plan"] = operator.stack().plan()
    api, filters = engine.api, {"label": f"{PREFIX_LABEL}={operator.prefix}"}
    places["specs"] = json.dumps([api.inspect_service(each["ID"]) for each in api.services(filters=filters)])
    places["configs"] = json.dumps(api.configs(filters=filters))
    running = [each for each in api.containers() if each["Names"][0].startswith(f"/{operator.prefix}-")]
    assert len(running) >= 8
    places["containers"] = json.dumps([api.inspect_container(each["Id"]) for each in running])
    places["logs"] = json.dumps(operator.stack().logs(10_000))
    assert any(path.endswith("terraform.tfstate") for path in places)
    seen = [(name, value[:4]) for name, text in places.items() for value in operator.values() if value in text]
    assert seen == []
    # Nor what a value could be tried against.
    hashes = [hashlib.sha256(value.encode()).hexdigest()[:12] for value in operator.values()]
    assert [(name, hashed) for name, text in places.items() for hashed in hashes if hashed in text] == []
    # That the search finds what is there.
    assert operator.prefix in places["specs"] and operator.prefix in places["containers"]


def test_buckets_and_users_are_there_and_a_users_rights_end_at_its_bucket(operator: Operator) -> None:
    client = connect(access(operator, "dvc"))
    client.put_object(Bucket="dvc", Key="k", Body=b"v")
    assert client.get_object(Bucket="dvc", Key="k")["Body"].read() == b"v"
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket="mlflow")


def test_the_registry_of_models_knows_its_users_and_nobody_else(operator: Operator) -> None:
    assert search(operator, None).status_code == 401
    assert search(operator, ("admin", "password1234")).status_code == 401
    found = search(operator, ("reader", operator.stack().secrets.value("mlflow-reader"))).json()
    assert [model["name"] for model in found["registered_models"]] == ["churn-model"]


def test_a_trainer_moves_no_alias_through_the_edge(operator: Operator) -> None:
    secret, alias = operator.stack().secrets.value, {"name": "churn-model", "alias": "production", "version": "1"}
    for prefix in ("api", "ajax-api"):
        url = f"{operator.url('mlflow')}/{prefix}/2.0/mlflow/registered-models/alias"
        told = {
            user: httpx.post(
                url, json=alias, auth=(user, secret(f"mlflow-{user}")), timeout=30.0, trust_env=False
            ).json()
            for user in ("promoter", "trainer")
        }
        assert told["trainer"]["error_code"] == "PERMISSION_DENIED"
        assert "make promote VERSION=n" in told["trainer"]["message"]
        # There is no version yet to point at.
        assert told["promoter"]["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_data_goes_through_the_edge_from_one_clone_to_another(operator: Operator, tmp_path: Path) -> None:
    remote, (here, there) = operator.stack().data_remote(), (tmp_path / "here", tmp_path / "there")
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


def test_the_service_is_offered_to_releases(operator: Operator) -> None:
    tags = httpx.get(f"{operator.url('images')}/v2/slipway/app/tags/list", trust_env=False).json()["tags"]
    image = operator.stack()._terraform.variables()["images"]["app"]
    assert tags == [image.removeprefix("sha256:")[:12]]


def test_rotating_all_leaves_the_old_refused_and_everything_working(
    operator: Operator, engine: docker.DockerClient
) -> None:
    store, old_dvc = operator.stack().secrets, access(operator, "dvc")
    names = ("mlflow-reader", "mlflow-admin", "mlflow-database", "postgres", "slipway-database")
    old = {name: store.value(name) for name in names}
    before = engine_secrets(engine, operator)
    operator.stack().rotate("all", operator.told.append)

    refused = connect(old_dvc)
    with pytest.raises(refused.exceptions.ClientError, match="SignatureDoesNotMatch"):
        refused.list_objects_v2(Bucket="dvc")
    connect(access(operator, "dvc")).list_objects_v2(Bucket="dvc")
    for user in ("admin", "reader"):
        assert search(operator, (user, old[f"mlflow-{user}"])).status_code == 401
        assert search(operator, (user, store.value(f"mlflow-{user}"))).status_code == 200
    for role, name in [("postgres", "postgres"), ("mlflow", "mlflow-database"), ("slipway", "slipway-database")]:
        assert "password authentication failed" in ask_database(engine, operator, role, old[name])
        assert ask_database(engine, operator, role, store.value(name)) == "1"
    after = engine_secrets(engine, operator)
    assert len(after) == len(before)
    assert {re.sub("-[0-9a-f]{12}$", "", name) for name in after & before} == {
        f"{operator.prefix}-{name}"
        for name in ("audit-objects-user", "minio-root-user", "mlflow-objects-user", "mlflow-webhook-key")
    }
    assert operator.stack().plan() == ""


def test_what_a_killed_run_has_left_is_repaired_by_the_next(
    operator: Operator, engine: docker.DockerClient, stranger: str
) -> None:
    operator.cut_off("2020-01-01")
    operator.up()
    assert stranger not in operator.left(engine)
    assert operator.stack().plan() == ""


def test_a_port_that_another_installation_has_is_refused_with_the_holder(operator: Operator, tmp_path: Path) -> None:
    other = Operator(tmp_path, {})
    other.ports["staging"] = operator.ports["staging"]
    with pytest.raises(PortTaken, match=f"by container {operator.prefix}-edge"):
        other.up()


def test_down_stops_every_container_and_keeps_the_data(operator: Operator, engine: docker.DockerClient) -> None:
    volumes = engine.api.volumes(filters={"label": f"{PREFIX_LABEL}={operator.prefix}"})["Volumes"]
    operator.stack().down(operator.told.append)
    assert [each for each in engine.api.containers() if each["Names"][0].startswith(f"/{operator.prefix}-")] == []
    kept = engine.api.volumes(filters={"label": f"{PREFIX_LABEL}={operator.prefix}"})["Volumes"]
    assert {volume["Name"] for volume in kept} == {volume["Name"] for volume in volumes}
    operator.up()
    client = connect(access(operator, "dvc"))
    assert client.get_object(Bucket="dvc", Key="k")["Body"].read() == b"v"


def access(operator: Operator, client: str) -> S3Access:
    secret = operator.stack().secrets.value
    return S3Access(operator.url("s3"), secret(f"{client}-objects-user"), secret(f"{client}-objects-password"))


def search(operator: Operator, auth: tuple[str, str] | None) -> httpx.Response:
    path = "api/2.0/mlflow/registered-models/search"
    return httpx.get(f"{operator.url('mlflow')}/{path}", auth=auth, timeout=30.0, trust_env=False)


def tasks_of(engine: docker.DockerClient, operator: Operator) -> set[str]:
    services = engine.api.services(filters={"label": f"{PREFIX_LABEL}={operator.prefix}"})
    return {task["ID"] for each in services for task in engine.api.tasks(filters={"service": each["ID"]})}


def engine_secrets(engine: docker.DockerClient, operator: Operator) -> set[str]:
    found: list[dict[str, Any]] = engine.api.secrets(filters={"label": f"{PREFIX_LABEL}={operator.prefix}"})
    return {secret["Spec"]["Name"] for secret in found}


def ask_database(engine: docker.DockerClient, operator: Operator, role: str, password: str) -> str:
    """What PostgreSQL answers to a login, asked from inside of its container, which alone can reach it."""
    name = f"{operator.prefix}-postgres."
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
