"""The real images in a real engine, as hardened as an installation runs them."""

import contextlib
import hashlib
import io
import json
import re
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import docker
import httpx
import psycopg
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from pipelines.adapters.images.build import BASE, image_names
from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from tests.support.containers.engine import (
    FIRST_BUILD_S,
    HEALTHY_S,
    ROOT,
    hardened,
    in_network,
    make_volume,
    run_to_end,
    secret_files,
    url_of,
)
from tests.support.imports import CONTROL, libraries_of, modules_of
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world.bundles import make_bundle, read_description, valid_row, write_bundle
from tests.support.world.replicas import release

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

BOOT_ERROR = 3
USAGE = 2
IMAGES = image_names(ROOT)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=10.0, trust_env=False)


def until_healthy(container: DockerContainer) -> None:
    """Wait until a container that was started again is healthy, or fail with its log."""
    wrapped, deadline = container.get_wrapped_container(), time.monotonic() + HEALTHY_S
    wrapped.reload()
    while wrapped.health != "healthy":
        assert time.monotonic() < deadline, f"{wrapped.health}: {wrapped.logs(tail=20).decode()}"
        time.sleep(0.2)
        wrapped.reload()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_special(engine: docker.DockerClient, images: dict[str, str], name: str) -> None:
    config = engine.images.get(images[name]).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_no_setuid_file_no_key_and_no_certificates_of_this_network(
    engine: docker.DockerClient, images: dict[str, str], name: str
) -> None:
    search = "find / -xdev ( -type f -perm /6000 -o -name ssl-cert-snakeoil.* -o -name ca-certificates.crt )"
    found = engine.containers.run(
        images[name], search.split(), entrypoint=[], user="0", remove=True, network_mode="none"
    )
    assert found.decode().split() == []


def test_the_control_image_imports_all_that_its_processes_may_without_a_network(
    engine: docker.DockerClient, images: dict[str, str]
) -> None:
    names = sorted({*modules_of(CONTROL), *libraries_of(CONTROL)} - {f"{CONTROL}.__main__"})
    program = f"import importlib\nfor name in {names}: importlib.import_module(name)\nprint('all')"
    told = engine.containers.run(
        images["control"],
        ["-c", program],
        entrypoint=["python"],
        remove=True,
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": ""},
    )
    assert told.decode().split() == ["all"]


def test_the_control_image_adds_at_most_850_mb_to_its_base(engine: docker.DockerClient, images: dict[str, str]) -> None:
    whole, base = (engine.images.get(name).attrs["Size"] for name in (images["control"], BASE))
    assert (whole - base) / 1e6 <= 850


def test_the_service_without_a_release_is_alive_and_says_so(images: dict[str, str]) -> None:
    with hardened(images["app"], port=8000) as service:
        assert get(f"{url_of(service, 8000)}/health").json()["status"] == "no release"
        ready = get(f"{url_of(service, 8000)}/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "no release")


def test_the_service_serves_a_good_bundle(images: dict[str, str], tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    with hardened(images["app"], port=8000, env=released(digest), volumes={path: "/bundle"}) as service:
        assert get(f"{url_of(service, 8000)}/ready").status_code == 200
        assert get(f"{url_of(service, 8000)}/health").json()["digest"] == digest
        answer = httpx.post(f"{url_of(service, 8000)}/predict", json=valid_row(), trust_env=False)
        assert (answer.status_code, answer.json()["version"]) == (200, "1")


def test_the_service_with_a_corrupt_bundle_ends_with_the_reason(images: dict[str, str], tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path)
    model = path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    status, last = refused_start(images["app"], path, digest)
    assert (status, last["event"], last["kind"]) == (BOOT_ERROR, "start_failed", "BundleError")
    assert "digest mismatch of model.onnx" in last["reason"]


def test_the_service_whose_model_crashes_at_its_load_ends_with_the_reason(
    images: dict[str, str], tmp_path: Path
) -> None:
    path, _ = make_bundle(tmp_path)
    junk = b"no model at all"
    description = read_description(path)
    description["files"]["model.onnx"] = sha256(junk)
    path, digest = write_bundle(tmp_path, description, junk)
    status, last = refused_start(images["app"], path, digest)
    assert (status, last["event"]) == (BOOT_ERROR, "start_failed")


def test_a_release_is_appended_by_crane_and_pulled_by_its_digest(
    engine: docker.DockerClient, images: dict[str, str], network: Network, tmp_path: Path
) -> None:
    path, digest = make_bundle(tmp_path / "bundles")
    layer = tmp_path / "layer.tar"
    layer.write_bytes(bundle_layer(path))
    store = hardened(images["image_registry"], port=5000, data=make_volume(engine))
    with in_network(store, network, "registry") as registry:
        here = url_of(registry, 5000).removeprefix("http://")
        with pushed(engine, images["app"], f"{here}/app"):
            append = ["append", "--insecure", "--base", "registry:5000/app:base"]
            append += ["--new_layer", "/layer.tar", "--new_tag", "registry:5000/release:v1"]
            crane = hardened(images["control"], volumes={layer: "/layer.tar"}, healthy=False, entrypoint="crane")
            code, said = run_to_end(in_network(crane.with_command(append), network, "crane"))
            assert code == 0, said
            appended = re.search(r"^registry:5000/release@(sha256:[0-9a-f]{64})$", said, re.MULTILINE)
            assert appended, said
            pinned = f"{here}/release@{appended[1]}"
            pulled = engine.images.pull(pinned)
        try:
            with hardened(str(pulled.id), port=8000, env=released(digest)) as service:
                assert get(f"{url_of(service, 8000)}/health").json()["digest"] == digest
        finally:
            engine.images.remove(pinned, force=True)


def test_postgres_makes_a_role_and_a_database_for_each_name_and_keeps_others_out(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with database(images, make_volume(engine), tmp_path, a_database="first", b_database="second") as server:
        assert ask(server, "a", "first", "SHOW server_version_num")[:2] == "17"
        assert ask(server, "a", "first", "CREATE TABLE kept AS SELECT 7 AS n; SELECT n FROM kept") == 7
        for user, password, base, why in [
            ("a", "second", "a", "password"),
            ("a", "first", "b", "permission denied"),
            ("postgres", "", "postgres", "password"),
        ]:
            with pytest.raises(psycopg.OperationalError, match=why):
                ask(server, user, password, "SELECT 1", base=base)


def test_postgres_keeps_its_data_and_takes_a_changed_password_over_a_restart(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    volume = make_volume(engine)
    with database(images, volume, tmp_path, a_database="before") as server:
        ask(server, "a", "before", "CREATE TABLE kept AS SELECT 7 AS n; SELECT n FROM kept")
        # As a machine dies: the server has no time to tidy up.
        server.get_wrapped_container().kill("KILL")
    with database(images, volume, tmp_path, a_database="after") as server:
        assert ask(server, "a", "after", "SELECT n FROM kept") == 7
        with pytest.raises(psycopg.OperationalError, match="password"):
            ask(server, "a", "before", "SELECT 1")


def test_postgres_logs_no_password_whatever_it_is_set_to_log_and_when_it_can_not_set_one(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    volume = make_volume(engine)
    settings = {"log_statement": "all", "log_min_duration_statement": "0", "default_transaction_read_only": "on"}
    with database(images, volume, tmp_path, a_database="planted-1") as server:
        for name, value in settings.items():
            done = server.exec(["psql", "-qX", "-U", "postgres", "-c", f"ALTER SYSTEM SET {name} = '{value}'"])
            assert done.exit_code == 0, done.output
    code, said = run_to_end(database(images, volume, tmp_path, healthy=False, a_database="planted-2"))
    assert (code, said.count("cannot execute ALTER ROLE in a read-only transaction")) == (3, 2)
    planted = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(planted) == len(["planted-1", "planted-2", "and the superuser's", "each time"])
    assert [word for word in planted if word in said] == []


def test_a_second_server_on_the_same_volume_ends(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    volume = make_volume(engine)
    with database(images, volume, tmp_path, a_database="one") as server:
        code, said = run_to_end(database(images, volume, tmp_path, healthy=False, a_database="one"))
        assert (code, said.strip()) == (1, "another server uses /data/17")
        assert ask(server, "a", "one", "SELECT 1") == 1


@pytest.mark.parametrize("name", ["minio", "mlflow", "postgres"])
def test_a_server_does_not_start_without_its_secrets(images: dict[str, str], name: str) -> None:
    code, said = run_to_end(hardened(images[name], healthy=False))
    assert code == USAGE
    assert "/run/secrets/" in said


def test_a_named_secret_that_is_missing_is_said(images: dict[str, str]) -> None:
    env = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD_FILE": "/run/secrets/minio"}
    code, said = run_to_end(hardened(images["minio"], env=env, healthy=False))
    assert code == USAGE
    assert "MINIO_ROOT_PASSWORD_FILE: /run/secrets/minio is missing" in said


def test_the_edge_is_alive_before_it_has_a_configuration(images: dict[str, str]) -> None:
    with hardened(images["edge"]).with_tmpfs_mount("/run/haproxy", "mode=1777") as edge:
        asked = edge.exec(["bash", "-c", "echo 'show version' | socat /run/haproxy/master.sock -"])
        assert asked.output.startswith(b"3."), asked.output


def test_control_says_its_verbs(images: dict[str, str]) -> None:
    code, said = run_to_end(hardened(images["control"], healthy=False).with_command(["--help"]))
    assert code == 0, said
    assert "promotion" in said or "production" in said


def test_a_load_run_refuses_a_plan_that_is_none(images: dict[str, str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    job = hardened(images["loadtest"], volumes={plan: "/plan.json"}, healthy=False)
    code, said = run_to_end(job.with_command(["--plan", "/plan.json", "--out", "/tmp/out"]))
    assert code == USAGE, said
    assert "error:" in said


def test_mlflow_keeps_versions_in_postgres_and_minio_over_a_restart(
    engine: docker.DockerClient,
    images: dict[str, str],
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = {name: secrets.token_hex(16) for name in ("mlflow_database", "minio", "mlflow_admin", "mlflow_flask")}
    files = secret_files(tmp_path / "secrets", **passwords)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", passwords["mlflow_admin"])
    bundle, _ = make_bundle(tmp_path / "bundles")
    model = (bundle / "model.onnx").read_bytes()
    with contextlib.ExitStack() as running:
        store = running.enter_context(in_network(minio(engine, images, files), network, "minio"))
        s3 = boto3.client(
            "s3",
            endpoint_url=url_of(store, 9000),
            aws_access_key_id="root",
            aws_secret_access_key=passwords["minio"],
            region_name="us-east-1",
        )
        s3.create_bucket(Bucket="artifacts")
        password = passwords["mlflow_database"]
        server = database(images, make_volume(engine), tmp_path / "database", mlflow_database=password)
        running.enter_context(in_network(server, network, "database"))
        registry = running.enter_context(in_network(mlflow(images, files), network, "mlflow"))

        assert get(f"{url_of(registry, 5000)}/api/2.0/mlflow/registered-models/search").status_code == 401
        trainer = MlflowTrainer(url_of(registry, 5000))
        kept = {"slipway/note": b"kept"}
        registered = trainer.register(
            "toy", onnx=model, input_types={"age": "long"}, artifacts=kept, run_tags={"team": "toys"}
        )
        assert s3.list_objects_v2(Bucket="artifacts")["KeyCount"] > 1

        registry.get_wrapped_container().restart()
        until_healthy(registry)
        versions = MlflowModelRegistry(url_of(registry, 5000), login=("admin", passwords["mlflow_admin"]))
        found = versions.version("toy", "1")
        assert (found.run_id, versions.run_tags(found.run_id)["team"]) == (registered.run_id, "toys")
        versions.fetch_model(found, tmp_path / "model")
        assert (tmp_path / "model" / "model.onnx").read_bytes() == model
        note = versions.fetch_artifact(found.run_id, "slipway/note", tmp_path / "fetched")
        assert note is not None and note.read_bytes() == b"kept"


def minio(engine: docker.DockerClient, images: dict[str, str], files: dict[str | Path, str]) -> DockerContainer:
    env = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD_FILE": "/run/secrets/minio"}
    return hardened(images["minio"], port=9000, env=env, volumes=files, data=make_volume(engine))


def mlflow(images: dict[str, str], files: dict[str | Path, str]) -> DockerContainer:
    env = {
        "PGHOST": "database",
        "PGUSER": "mlflow",
        "PGDATABASE": "mlflow",
        "PGPASSWORD_FILE": "/run/secrets/mlflow-database",
        "MLFLOW_AUTH_ADMIN_PASSWORD_FILE": "/run/secrets/mlflow-admin",
        "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE": "/run/secrets/mlflow-flask",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": "http://minio:9000",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "AWS_ACCESS_KEY_ID": "root",
        "AWS_SECRET_ACCESS_KEY_FILE": "/run/secrets/minio",
    }
    return hardened(images["mlflow"], port=5000, env=env, volumes=files)


def database(
    images: dict[str, str], volume: str, directory: Path, *, healthy: bool = True, **passwords: str
) -> DockerContainer:
    """PostgreSQL with a role and a database for each `NAME_database=password`."""
    directory.mkdir(exist_ok=True)
    files = secret_files(directory / secrets.token_hex(4), postgres=secrets.token_hex(16), **passwords)
    names = [name.removesuffix("_database") for name in passwords]
    env = {"DATABASES": " ".join(names)}
    return hardened(images["postgres"], port=5432, env=env, volumes=files, data=volume, healthy=healthy)


def ask(server: DockerContainer, user: str, password: str, statements: str, *, base: str | None = None) -> Any:
    """The first value of the last statement's answer."""
    port = server.get_exposed_port(5432)
    with psycopg.connect(
        host="127.0.0.1", port=port, user=user, password=password, dbname=base or user, connect_timeout=10
    ) as connection:
        cursor = connection.cursor()
        for statement in statements.split(";"):
            cursor.execute(statement.encode())
        row = cursor.fetchone()
        return row[0] if row else None


def released(digest: str) -> dict[str, str]:
    return release(Path("/bundle"), digest)


def refused_start(image: str, path: Path, digest: str) -> tuple[int, dict[str, str]]:
    """The exit code and the last log line of a replica."""
    code, said = run_to_end(hardened(image, env=released(digest), volumes={path: "/bundle"}, healthy=False))
    last: dict[str, str] = json.loads(said.splitlines()[-1])
    return code, last


def bundle_layer(path: Path) -> bytes:
    """The layer that a release adds: the bundle's files at /bundle, readable by everyone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(path.iterdir()):
            entry = tarfile.TarInfo(f"bundle/{file.name}")
            entry.size, entry.mode = file.stat().st_size, 0o444
            archive.addfile(entry, io.BytesIO(file.read_bytes()))
    return packed.getvalue()


@contextlib.contextmanager
def pushed(engine: docker.DockerClient, image: str, name: str) -> Iterator[None]:
    """Push an image as NAME:base; this machine forgets the name again."""
    engine.images.get(image).tag(name, "base")
    try:
        said = engine.images.push(name, "base")
        assert "error" not in said, said
        yield
    finally:
        engine.images.remove(f"{name}:base")


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
