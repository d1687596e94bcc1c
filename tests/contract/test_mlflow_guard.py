"""The guard in front of the model registry: the trainer registers versions, the promoter alone says which one serves.

Its users too: who may do what, and how a new password takes the place of the old.

The same tests run on the MLflow installed here and on the real image.
"""

import importlib
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from mlflow import MlflowClient, set_tracking_uri
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from mlflow.protos.model_registry_pb2 import ModelRegistryService

import slipway
from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.training_run import register, register_converted
from pipelines.adapters.mlflow.users import MlflowUsers
from pipelines.errors import RegistryUnavailable, UsageError
from pipelines.packaging.converted import PREDICTIONS_FILE, ConvertedFolder
from tests.support.containers.engine import FIRST_BUILD_S
from tests.support.servers.guarded_mlflow import ADMIN, PLUGIN, guarded_container, guarded_process, settings_of
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.servers.servers import free_port
from tests.support.world import notebooks
from tests.support.world.bundles import make_bundle
from tests.support.world.strange_http import exchange
from tests.support.world.trained import trained

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

PASSWORDS = {"admin": ADMIN, **{name: f"password-of-the-{name}" for name in ("promoter", "reader", "trainer")}}
LATER = "third-password-of-the-admin"
PREFIXES = ("api", "ajax-api")
# As many fields as a request to the registry may need; MLflow leaves out those that it does not know.
BODY = {
    "name": "toy",
    "version": "1",
    "alias": "production",
    "key": "lifecycle",
    "value": "Production",
    "new_name": "stolen",
    "stage": "Production",
    "description": "as the trainer sees it",
    "source": "models:/toy/1",
}
FREE = {"createModelVersion", "createRegisteredModel", "getLatestVersions", "updateModelVersion"}
WRITES = {
    (endpoint.method, endpoint.path.removeprefix("/mlflow/")): method.name
    for method in ModelRegistryService.DESCRIPTOR.methods
    for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints
    if endpoint.method != "GET"
}
REFUSED = sorted(route for route, name in WRITES.items() if name not in FREE)


@pytest.fixture(scope="module", params=["process", "image"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a guarded MLflow with its users, where the trainer has registered two versions of `toy`."""
    pytest.importorskip("flask_wtf", reason="mlflow's auth extra is not installed")
    home = tmp_path_factory.mktemp("guarded")
    if request.param == "image":
        running = guarded_container(request.getfixturevalue("images")["mlflow"], home)
    else:
        running = guarded_process(home)
    with running as url:
        users = MlflowUsers(url, ADMIN)
        users.ensure({name: password for name, password in PASSWORDS.items() if name != "admin"})
        users.ensure_model("toy")
        bundle, _ = make_bundle(home / "bundles")
        with pytest.MonkeyPatch.context() as patch:
            as_user(patch, "trainer")
            for _ in range(2):
                MlflowTrainer(url).register(
                    "toy",
                    onnx=(bundle / "model.onnx").read_bytes(),
                    input_types={"age": "long"},
                    artifacts={},
                    run_tags={"slipway.dataset.train": "sha256:0"},
                )
        yield url


@pytest.fixture
def mlflow(server: str) -> str:
    """Address of the server, where `production` is version 1, as the promoter has said."""
    answer = ask(server, "promoter", "POST", "registered-models/alias")
    assert answer.status_code == 200, answer.text
    return server


def as_user(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let MLflow's own client be a user."""
    patch.setenv("MLFLOW_TRACKING_USERNAME", name)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[name])


def ask(url: str, user: str, method: str, path: str, *, prefix: str = "api", **changes: Any) -> httpx.Response:
    """Send a request about version 1 of `toy` as a user."""
    address = f"{url}/{prefix}/2.0/mlflow/{path}"
    body = BODY | changes
    return httpx.request(method, address, json=body, auth=(user, PASSWORDS[user]), timeout=30.0, trust_env=False)


def state(url: str) -> Any:
    """Return all that the registry says of the model and its first version."""
    login = ("reader", PASSWORDS["reader"])
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow", auth=login, timeout=30.0, trust_env=False) as client:
        model = client.get("registered-models/get", params={"name": "toy"}).json()
        return model, client.get("model-versions/get", params={"name": "toy", "version": "1"}).json()


def test_what_is_the_promoters_is_refused_to_the_trainer_with_what_to_do(mlflow: str) -> None:
    before = state(mlflow)
    for (method, path), prefix in itertools.product(REFUSED, PREFIXES):
        answer = ask(mlflow, "trainer", method, path, prefix=prefix, version="2", tags=[])
        assert answer.status_code == 403, (path, answer.text)
        if answer.headers["content-type"] == "application/json":
            assert answer.json()["error_code"] == "PERMISSION_DENIED"
            assert "promoter alone" in answer.json()["message"]
            assert "make promote VERSION=n" in answer.json()["message"]
        else:
            # MLflow's own no, which comes first: the trainer may not delete.
            assert (method, answer.text) == ("DELETE", "Permission denied")
    assert state(mlflow) == before


def test_the_ways_to_write_that_this_mlflow_has_are_those_that_were_thought_about() -> None:
    assert len(WRITES) - len(REFUSED) == len(FREE)
    assert {WRITES[route] for route in REFUSED} == {
        "deleteModelVersion",
        "deleteModelVersionTag",
        "deleteRegisteredModel",
        "deleteRegisteredModelAlias",
        "deleteRegisteredModelTag",
        "renameRegisteredModel",
        "setModelVersionTag",
        "setRegisteredModelAlias",
        "setRegisteredModelTag",
        "transitionModelVersionStage",
        "updateRegisteredModel",
    }


# Prints each route of the installed MLflow that writes, with the role that the table gives it.
_ROUTES = """
import json, sys
from mlflow.server import app, auth
from slipway_mlflow_routes import known, role_of
from starlette.routing import Mount

guarded = auth.create_app(app)
found = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods}
for included in guarded.routes:
    if not isinstance(included, Mount):
        prefix = included.include_context.prefix
        found |= {
            (method, prefix + route.path) for route in included.original_router.routes for method in route.methods
        }
writes = sorted(each for each in found if each[0] not in ("GET", "HEAD", "OPTIONS"))
roles = [role_of(*each) for each in writes]
print(json.dumps([[*each, role.name if role else None] for each, role in zip(writes, roles)]))
print(json.dumps(sorted(known())))
"""


def test_every_route_that_writes_stands_in_the_table(tmp_path: Path) -> None:
    pytest.importorskip("flask_wtf", reason="mlflow's auth extra is not installed")
    (tmp_path / "routes.py").write_text(_ROUTES)
    environ = {
        **settings_of(tmp_path),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        "_MLFLOW_SGI_NAME": "uvicorn",
        "PYTHONPATH": str(PLUGIN),
        "PATH": "",
    }
    told = subprocess.run(
        [sys.executable, str(tmp_path / "routes.py")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    writes, known = map(json.loads, told.stdout.splitlines()[-2:])

    unthought = [route for *route, role in writes if role is None]
    assert unthought == [], "say in slipway_mlflow_routes.py who may write there"
    held = {(method, route.replace("/ajax-api/", "/").replace("/api/", "/")) for method, route, _ in writes}
    assert {tuple(route) for route in known} <= held, "MLflow has no such route any more"
    assert len({role for *_, role in writes}) == 5


NOT_THE_TRAINERS = [
    ("POST", "2.0/mlflow/experiments/delete"),
    ("POST", "2.0/mlflow/experiments/update"),
    ("POST", "2.0/mlflow/runs/delete"),
    ("POST", "2.0/mlflow/runs/delete-tag"),
    ("DELETE", "2.0/mlflow/logged-models/{model}"),
    ("POST", "2.0/mlflow/upload-artifact"),
    ("POST", "2.0/mlflow/artifacts/presigned-upload-url"),
    ("DELETE", "2.0/mlflow-artifacts/artifacts/{file}"),
    ("POST", "2.0/mlflow-artifacts/mpu/create/{file}"),
    ("PUT", "2.0/mlflow-artifacts/artifacts/{file}"),
    ("POST", "2.0/mlflow/webhooks"),
    ("PATCH", "2.0/mlflow/users/update-password"),
    ("POST", "3.0/mlflow/users/permissions/grant"),
    ("POST", "3.0/mlflow/gateway/secrets/create"),
    ("POST", "3.0/mlflow/scorers/register"),
    ("POST", "3.0/mlflow/mcp-servers"),
    ("POST", "3.0/jobs/"),
    ("GET", "2.0/mlflow/gateway-proxy"),
]


@dataclass(frozen=True)
class Registered:
    """What version 1 was registered from."""

    run: str
    experiment: str
    model: str
    file: str


@pytest.fixture
def first(mlflow: str) -> Registered:
    version = state(mlflow)[1]["model_version"]
    login = ("reader", PASSWORDS["reader"])
    with httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow", auth=login, timeout=30.0, trust_env=False) as client:
        run = client.get("runs/get", params={"run_id": version["run_id"]}).json()["run"]["info"]
    model = version["source"].removeprefix("models:/")
    file = f"{run['experiment_id']}/models/{model}/artifacts/MLmodel"
    return Registered(run["run_id"], run["experiment_id"], model, file)


def content_of(url: str, file: str) -> bytes:
    login = ("reader", PASSWORDS["reader"])
    path = f"{url}/api/2.0/mlflow-artifacts/artifacts/{file}"
    answer = httpx.get(path, auth=login, timeout=30.0, trust_env=False)
    return answer.content if answer.status_code == 200 else b""


def put(url: str, user: str, file: str, content: bytes, *, prefix: str = "api") -> int:
    path = f"{url}/{prefix}/2.0/mlflow-artifacts/artifacts/{file}"
    login = (user, PASSWORDS[user])
    return httpx.put(path, content=content, auth=login, timeout=30.0, trust_env=False).status_code


def test_nothing_that_a_version_rests_on_is_removed_or_overwritten(mlflow: str, first: Registered) -> None:
    before, kept = state(mlflow), content_of(mlflow, first.file)
    assert b"flavors" in kept
    body = {
        "experiment_id": first.experiment,
        "run_id": first.run,
        "run_uuid": first.run,
        "key": "slipway.dataset.train",
        "username": "trainer",
        "new_name": "x",
    }
    reached = {}
    for (method, route), user in itertools.product(NOT_THE_TRAINERS, ("trainer", "reader")):
        path = route.format(model=first.model, file=first.file)
        for prefix in ("ajax-api",) if method == "GET" else PREFIXES:
            login = (user, PASSWORDS[user])
            answer = httpx.request(
                method, f"{mlflow}/{prefix}/{path}", json=body, auth=login, timeout=30.0, trust_env=False
            )
            if answer.status_code < 400 or answer.status_code >= 500:
                reached[method, route, user, prefix] = (answer.status_code, answer.text[:200])
    assert reached == {}
    assert (state(mlflow), content_of(mlflow, first.file)) == (before, kept)


def test_odd_ways_to_write_the_same_file_overwrite_nothing(mlflow: str, first: Registered) -> None:
    kept = content_of(mlflow, first.file)
    folder, _, name = first.file.rpartition("/")
    for path in (
        f"{folder}//{name}",
        f"{folder}/%4DLmodel",
        f"{folder}/./{name}",
        f"{folder}/x/../{name}",
        f"{first.experiment}//{first.file.partition('/')[2]}",
        f"/{first.file}",
        f"{first.file}/",
        first.file.upper(),
    ):
        put(mlflow, "trainer", path, b"stolen")
        put(mlflow, "trainer", path, b"stolen", prefix="ajax-api")
    assert content_of(mlflow, first.file) == kept


def test_the_trainer_adds_files_and_the_promoter_writes_over_its_own(mlflow: str, first: Registered) -> None:
    folder = f"{first.experiment}/{first.run}/artifacts"
    assert put(mlflow, "trainer", f"{folder}/notes-{uuid4().hex}.txt", b"x") == 200
    for content in (b"1", b"2"):
        assert put(mlflow, "promoter", f"{folder}/evidence/report.json", content) == 200
    assert put(mlflow, "trainer", f"{folder}/evidence/report.json", b"3") == 403
    assert content_of(mlflow, f"{folder}/evidence/report.json") == b"2"


def test_files_of_a_run_that_nothing_was_registered_from_are_the_trainers(
    mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    run = client.create_run(client.create_experiment(f"free-{uuid4().hex}")).info
    for content in (b"1", b"2"):
        assert put(mlflow, "trainer", f"{run.experiment_id}/{run.run_id}/artifacts/a.txt", content) == 200


@dataclass(frozen=True)
class Bare:
    """A run of the trainer's with one file, from which a version can be registered by a `runs:/` address."""

    url: str
    client: MlflowClient
    id: str
    experiment: str

    @property
    def file(self) -> str:
        return f"{self.experiment}/{self.id}/artifacts/model/MLmodel"

    def register(self) -> None:
        assert put(self.url, "trainer", self.file, b"own") == 200
        self.client.create_model_version("toy", f"runs:/{self.id}/model", run_id=self.id)


@pytest.fixture
def bare(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> Bare:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    run = client.create_run(client.create_experiment(f"bare-{uuid4().hex}")).info
    return Bare(mlflow, client, run.run_id, run.experiment_id)


def test_a_file_that_comes_slowly_overwrites_nothing_that_was_registered_meanwhile(bare: Bare) -> None:
    known, url = httpx.BasicAuth("trainer", PASSWORDS["trainer"])._auth_header, httpx.URL(bare.url)
    head = f"PUT /api/2.0/mlflow-artifacts/artifacts/{bare.file} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
    head += f"Authorization: {known}\r\nContent-Length: 6\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", url.port or 80), 30) as connection:
        connection.sendall(head.encode())
        # So its head was found right, and the body is being read.
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        bare.register()
        connection.sendall(b"stolen")
        assert connection.recv(4096).startswith(b"HTTP/1.1 403 ")
    assert content_of(bare.url, bare.file) == b"own"


def test_no_model_takes_the_place_of_what_a_run_was_registered_with(bare: Bare) -> None:
    bare.client.create_logged_model(bare.experiment, name="before", source_run_id=bare.id)
    bare.register()
    with pytest.raises(MlflowException, match="logs no further models"):
        bare.client.create_logged_model(bare.experiment, name="model", source_run_id=bare.id)
    bare.client.create_logged_model(bare.experiment, name="model")


def test_a_run_is_not_registered_from_while_a_file_of_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    underway = importlib.import_module("slipway_mlflow_underway").Underway()
    refused = pytest.raises(MlflowException, match="send it again")
    with underway.writing("run/x", {"run"}):
        with refused, underway.registering({"run"}):
            pass
        with refused, underway.writing("run/x", {"run"}):
            pass
        with underway.writing("run/y", {"run"}), underway.registering({"model"}):
            pass
        # The file that has ended lets go of its own only.
        with refused, underway.registering({"run", "model"}):
            pass
    with underway.registering({"run"}), underway.registering({"run"}):
        with refused as told, underway.writing("run/x", {"run"}):
            pass
        # Which MLflow's client sends again by itself.
        assert told.value.get_http_status_code() == 503
    with underway.writing("run/x", {"run"}):
        pass


def test_the_reader_writes_nothing_whatever_it_is_sent_like(
    mlflow: str, first: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    routes = importlib.import_module("slipway_mlflow_routes")
    before, known = state(mlflow), sorted(routes.known())
    body = BODY | {"name": f"own-{uuid4().hex}", "experiment_id": first.experiment, "run_id": first.run}
    body |= {"experiment_ids": [first.experiment], "query": "{ __typename }"}
    login, wrong = ("reader", PASSWORDS["reader"]), {}
    with httpx.Client(base_url=mlflow, auth=login, timeout=30.0, trust_env=False) as client:
        for (method, route), prefix in itertools.product(known, PREFIXES):
            path = route.replace("<model_id>", first.model).replace("<tag_key>", "x")
            path = path.replace("<path:artifact_path>", f"{first.experiment}/{first.run}/artifacts/{uuid4().hex}")
            answer = client.request(method, path if path == "/graphql" else f"/{prefix}{path}", json=body)
            # An administrator's request may be found to be malformed, or none of this address, before.
            expected = {
                routes.Role.READER: "may look, and not write" not in answer.text,
                routes.Role.ADMIN: answer.is_client_error,
            }
            if not expected.get(routes.role_of(method, route), answer.status_code == 403):
                wrong[method, route, prefix] = (answer.status_code, answer.text[:200])
    assert wrong == {}
    assert ask(mlflow, "reader", "POST", "runs/search", experiment_ids=[first.experiment]).json()["runs"]
    assert state(mlflow) == before


def test_no_experiment_has_its_files_elsewhere(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "trainer")
    for place in ("file:///tmp", "s3://bucket/x", "mlflow-artifacts:/0"):
        with pytest.raises(MlflowException, match="no artifact location of their own"):
            MlflowClient(mlflow).create_experiment(f"elsewhere-{uuid4().hex}", artifact_location=place)


def test_a_version_has_so_many_tags_of_so_many_characters(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    tags = {f"tag{number}": "x" for number in range(100)}
    made = client.create_model_version("toy", "models:/toy/1", tags=tags)
    client.set_model_version_tag("toy", made.version, "tag0", "y" * 5000)
    for write in (
        lambda: client.set_model_version_tag("toy", made.version, "one more", "x"),
        lambda: client.set_model_version_tag("toy", made.version, "tag0", "x" * 5001),
        lambda: client.create_model_version("toy", "models:/toy/1", tags={**tags, "one more": "x"}),
    ):
        with pytest.raises(MlflowException, match="100 tags of 5000 characters"):
            write()


def test_tags_say_so_much_as_mlflow_sends_them(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    run = client.create_run(client.create_experiment(f"talkative-{uuid4().hex}")).info
    logged = client.create_logged_model(run.experiment_id, source_run_id=run.run_id).model_id
    version = client.create_model_version("toy", "models:/toy/1").version
    long = "\N{SEEDLING}" * 5000
    writes = {
        f"model-versions/get?name=toy&version={version}": lambda key, value: client.set_model_version_tag(
            "toy", version, key, value
        ),
        f"runs/get?run_id={run.run_id}": lambda key, value: client.set_tag(run.run_id, key, value),
        f"logged-models/{logged}": lambda key, value: client.set_logged_model_tags(logged, {key: value}),
    }
    for asked, write in writes.items():
        for number in range(4):
            write(f"tag-{number}", long)
        # What is written over does not count twice.
        write("tag-0", long)
        with pytest.raises(MlflowException, match="its tags have 262,144 bytes at most"):
            write("tag-4", long)
        write("tag-4", "\N{SEEDLING}" * 1700)
        login = ("reader", PASSWORDS["reader"])
        said = httpx.get(f"{mlflow}/api/2.0/mlflow/{asked}", auth=login, timeout=30.0, trust_env=False)
        assert 240_000 < len(said.content) < 300_000, asked
    for create in (
        lambda tags: client.create_model_version("toy", "models:/toy/1", tags=tags),
        lambda tags: client.create_run(run.experiment_id, tags=tags),
        lambda tags: client.create_logged_model(run.experiment_id, tags=tags),
        lambda tags: client.log_batch(run.run_id, tags=[RunTag(*tag) for tag in tags.items()]),
    ):
        with pytest.raises(MlflowException, match="its tags have 262,144 bytes at most"):
            create({f"more-{number}": long for number in range(5)})


def test_many_wrong_passwords_are_refused_while_known_users_are_served(mlflow: str) -> None:
    paths = ("/api/2.0/mlflow-artifacts/artifacts/x", "/api/2.0/mlflow/experiments/get?experiment_id=0")

    def guess(number: int) -> int:
        login = ("admin", f"guess-{number}")
        return httpx.get(mlflow + paths[number % 2], auth=login, timeout=60.0, trust_env=False).status_code

    with ThreadPoolExecutor(40) as pool:
        guesses = [pool.submit(guess, number) for number in range(80)]
        known = [ask(mlflow, "reader", "GET", "registered-models/get?name=toy").status_code for _ in range(5)]
        told = [each.result() for each in guesses]
    assert known == [200] * 5
    assert set(told) == {401, 429}


def test_what_slipway_trains_is_registered_by_the_trainer(
    mlflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, "trainer")
    workspace = trained(tmp_path, name=f"plant-{uuid4().hex[:8]}")
    try:
        assert register(workspace, mlflow, tmp_path)["model_version"] == "1"
    finally:
        set_tracking_uri("http://127.0.0.1:9")


def test_nobody_else_writes_an_alias_either(mlflow: str) -> None:
    before = state(mlflow)
    for user, method, prefix in itertools.product(("admin", "reader"), ("POST", "DELETE"), PREFIXES):
        answer = ask(mlflow, user, method, "registered-models/alias", prefix=prefix, version="2")
        assert answer.status_code == 403, (user, answer.text)
    assert state(mlflow) == before


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_promoter_moves_removes_and_tags(mlflow: str, prefix: str) -> None:
    assert ask(mlflow, "promoter", "POST", "registered-models/alias", prefix=prefix, version="2").status_code == 200
    assert state(mlflow)[0]["registered_model"]["aliases"] == [{"alias": "production", "version": "2"}]
    assert ask(mlflow, "promoter", "DELETE", "registered-models/alias", prefix=prefix).status_code == 200
    assert "aliases" not in state(mlflow)[0]["registered_model"]
    for method, path in [("POST", "model-versions/set-tag"), ("DELETE", "model-versions/delete-tag")]:
        assert ask(mlflow, "promoter", method, path, prefix=prefix).status_code == 200, path


def test_slipways_own_client_works_for_the_promoter(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "promoter")
    registry = MlflowModelRegistry(mlflow, login=("promoter", PASSWORDS["promoter"]))
    registry.move_alias("toy", "staging", "2")
    assert registry.aliases("toy") == {"production": "1", "staging": "2"}
    registry.set_tag("toy", "2", "lifecycle", "Staging")
    registry.set_description("toy", "2", "**No.** Stopped by accuracy.")
    registry.attach_evidence(registry.version("toy", "2"), {"report.json": b"{}"})
    registry.move_alias("toy", "staging", None)


def test_mlflows_own_client_tells_the_trainer_what_to_do(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    for write in (
        lambda: client.set_registered_model_alias("toy", "production", "2"),
        lambda: client.set_model_version_tag("toy", "2", "slipway.verdict", "passed"),
        lambda: client.create_model_version("toy", "models:/toy/1", tags={"lifecycle": "Production"}),
        lambda: client.rename_registered_model("toy", "other"),
    ):
        with pytest.raises(MlflowException, match="make promote VERSION=n") as refused:
            write()
        assert refused.value.error_code == "PERMISSION_DENIED"
    with pytest.raises(MlflowException, match="Permission denied"):
        client.delete_registered_model_alias("toy", "production")
    assert client.get_registered_model("toy").aliases == {"production": "1"}


def test_the_trainer_describes_versions_in_words_and_tags_of_its_own(
    mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, "trainer")
    client = MlflowClient(mlflow)
    client.update_model_version("toy", "2", "trained on a Sunday")
    client.set_model_version_tag("toy", "2", "team", "toys")
    copied = client.create_model_version("toy", "models:/toy/2", tags={"team": "toys"})
    assert (copied.tags, client.get_model_version("toy", "2").tags["team"]) == ({"team": "toys"}, "toys")


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_the_trainer_registers_what_a_notebook_fitted_and_what_was_converted(
    mlflow: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_user(monkeypatch, "trainer")
    rows = notebooks.passengers()
    columns = [*notebooks.NUMBERS, *notebooks.TEXTS]
    fitted = notebooks.logistic().fit(rows[columns], rows["survived"])
    logged = slipway.log_model(fitted, rows[columns], rows["survived"], task="binary", name="toy", tracking_uri=mlflow)
    registry = MlflowModelRegistry(mlflow, login=("trainer", PASSWORDS["trainer"]))
    registry.fetch_model(registry.version("toy", logged.version), tmp_path / "model")
    found = registry.fetch_artifact(logged.run_id, "slipway/evaluation.parquet", tmp_path)
    assert found is not None
    found.rename(tmp_path / ConvertedFolder.EVALUATION)
    (tmp_path / PREDICTIONS_FILE).write_bytes(b"")
    ConvertedFolder("toy", {"slipway.converted_from": logged.version}, {"accuracy": 0.5}).write(tmp_path)
    done = register_converted(tmp_path, mlflow)
    set_tracking_uri("http://127.0.0.1:9")
    assert int(done["model_version"]) == int(logged.version) + 1
    assert registry.run_tags(done["run_id"])["slipway.converted_from"] == logged.version


def test_odd_ways_to_write_the_same_address_move_no_alias(mlflow: str) -> None:
    before, login = state(mlflow), ("trainer", PASSWORDS["trainer"])
    ways = [
        ("POST", "/api/2.0/mlflow/registered-models/alias/"),
        ("POST", "//api/2.0/mlflow/registered-models/alias"),
        ("POST", "/api/2.0/mlflow//registered-models/alias"),
        ("POST", "/api/2.0/mlflow/registered-models/%61lias"),
        ("POST", "/api/2.0/mlflow/x/../registered-models/alias"),
        ("POST", "/api/3.0/mlflow/registered-models/alias"),
        ("POST", "/health/../api/2.0/mlflow/registered-models/alias"),
        ("PUT", "/api/2.0/mlflow/registered-models/alias"),
        ("GET", "/api/2.0/mlflow/registered-models/alias"),
    ]
    for (method, path), header in itertools.product(ways, ["", "POST"]):
        headers = {"X-HTTP-Method-Override": header} if header else {}
        httpx.request(method, mlflow + path, json=BODY | {"version": "2"}, headers=headers, auth=login, trust_env=False)
    assert state(mlflow) == before


def test_graphql_writes_nothing(mlflow: str) -> None:
    query = "{ __schema { mutationType { fields { name } } } }"
    login = ("trainer", PASSWORDS["trainer"])
    answer = httpx.post(f"{mlflow}/graphql", json={"query": query}, auth=login, timeout=30.0, trust_env=False)
    names = {field["name"] for field in answer.json()["data"]["__schema"]["mutationType"]["fields"]}
    # Two searches and an echo, whatever their names say.
    assert names == {"mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"}


@pytest.mark.parametrize("login", [None, ("trainer", "guessed")], ids=["nobody", "a wrong password"])
@pytest.mark.parametrize("length", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_stranger_is_refused_before_a_body_is_read(mlflow: str, login: tuple[str, str] | None, length: str) -> None:
    asked = f"PUT /api/2.0/mlflow-artifacts/artifacts/x HTTP/1.1\r\nHost: {httpx.URL(mlflow).netloc.decode()}\r\n"
    if login:
        asked += f"Authorization: {httpx.BasicAuth(*login)._auth_header}\r\n"
    # Nothing of the body is ever sent, and the answer comes nevertheless.
    answer = exchange(httpx.URL(mlflow).port or 80, f"{asked}{length}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401") and b"\r\nwww-authenticate: Basic" in answer


# By a route of Flask's, which keeps the whole in memory; and as one that only looks like a file's.
@pytest.mark.parametrize("path", ["/api/2.0/mlflow/runs/log-batch", "/api/2.0/mlflow-artifacts/artifacts/0/a%0Ab"])
def test_who_is_known_sends_so_much_at_once_but_for_a_file(mlflow: str, path: str) -> None:
    known = httpx.BasicAuth("trainer", PASSWORDS["trainer"])._auth_header
    asked = f"PUT {path} HTTP/1.1\r\nHost: {httpx.URL(mlflow).netloc.decode()}\r\nAuthorization: {known}\r\n"
    # Nothing of the body is ever sent.
    answer = exchange(httpx.URL(mlflow).port or 80, f"{asked}Content-Length: 1000000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert put(mlflow, "trainer", f"0/{uuid4().hex}/artifacts/large.bin", bytes(8 << 20)) == 200


def status_of(url: str, user: str, password: str, path: str, body: dict[str, str] | None = None) -> int:
    address = f"{url}/api/2.0/mlflow/{path}"
    login = (user, password)
    answer = httpx.request("POST" if body else "GET", address, json=body, auth=login, timeout=30.0, trust_env=False)
    return answer.status_code


@pytest.fixture
def rotated(server: str) -> Iterator[str]:
    """Address of the server, whose users have their passwords back in the end."""
    yield server
    users = MlflowUsers(server, ADMIN, [LATER])
    users.ensure({name: password for name, password in PASSWORDS.items() if name != "admin"})


def test_users_get_their_rights_and_new_passwords_the_place_of_the_old(rotated: str) -> None:
    passwords = {name: f"{name}-before-0123" for name in ("promoter", "reader", "trainer")}
    users = MlflowUsers(rotated, ADMIN)
    users.ensure(passwords)
    users.ensure_model("rotated")
    users.ensure_model("rotated")
    for name, password in passwords.items():
        assert status_of(rotated, name, password, "registered-models/get?name=rotated") == 200, name
    run, tag = {"experiment_id": "0"}, {"name": "rotated", "key": "k", "value": "v"}
    runs = {name: status_of(rotated, name, passwords[name], "runs/create", run) for name in passwords}
    assert runs == {"promoter": 200, "reader": 403, "trainer": 200}
    tags = {name: status_of(rotated, name, passwords[name], "registered-models/set-tag", tag) for name in passwords}
    assert tags == {"promoter": 200, "reader": 403, "trainer": 403}
    user = {"username": "x", "password": "y" * 12}
    assert status_of(rotated, "trainer", passwords["trainer"], "users/create", user) == 403

    # As after two rotations of which the first never came into force.
    renewed = {name: f"{name}-after-01234" for name in passwords}
    MlflowUsers(rotated, LATER, ["second-password", ADMIN]).ensure(renewed)
    assert status_of(rotated, "admin", ADMIN, "users/current") == 401
    for name, password in passwords.items():
        assert status_of(rotated, name, password, "registered-models/get?name=rotated") == 401
        assert status_of(rotated, name, renewed[name], "registered-models/get?name=rotated") == 200


def test_a_home_that_knows_another_password_is_refused_without_showing_it(server: str) -> None:
    with pytest.raises(UsageError, match="another password than this home") as refused:
        MlflowUsers(server, "canary-one-0123", ["canary-two-0123"]).ensure({"reader": "canary-three-0"})
    assert "canary" not in repr(refused.value)


def test_users_of_a_registry_that_does_not_answer_are_not_made() -> None:
    with pytest.raises(RegistryUnavailable, match="does not answer: ConnectError"):
        MlflowUsers(f"http://127.0.0.1:{free_port()}", "p").ensure({})


def test_another_promoter_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask_wtf", reason="mlflow's auth extra is not installed")
    monkeypatch.setenv("SLIPWAY_PROMOTER", "trainer")
    with guarded_process(tmp_path) as url:
        users = MlflowUsers(url, ADMIN)
        users.ensure({name: PASSWORDS[name] for name in ("promoter", "trainer")})
        users.ensure_model("toy")
        told = ask(url, "promoter", "POST", "registered-models/alias")
        assert (told.status_code, "trainer alone" in told.text) == (403, True)
        assert "not found" in ask(url, "trainer", "POST", "registered-models/alias").text
