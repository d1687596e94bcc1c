"""The guard in front of the model registry: the trainer registers versions, the promoter alone says which one serves.

The same tests run on the MLflow installed here and on the real image.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from mlflow.protos.model_registry_pb2 import ModelRegistryService

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.users import MlflowUsers
from tests.support.containers.engine import FIRST_BUILD_S
from tests.support.servers.guarded_mlflow import ADMIN, guarded_container, guarded_process
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world.bundles import make_bundle
from tests.support.world.strange_http import exchange

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

PASSWORDS = {"admin": ADMIN, **{name: f"password-of-the-{name}" for name in ("promoter", "reader", "trainer")}}
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
