"""The users of a guarded MLflow, on a real one: who may do what, and how a new password takes the place of the old."""

from collections.abc import Iterator

import httpx
import pytest

from pipelines.adapters.mlflow.users import MlflowUsers
from pipelines.errors import RegistryUnavailable, UsageError
from tests.support.servers.guarded_mlflow import ADMIN as FIRST
from tests.support.servers.guarded_mlflow import guarded_process
from tests.support.servers.servers import free_port


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow behind passwords, whose admin has the password FIRST."""
    pytest.importorskip("flask_wtf", reason="mlflow's auth extra is not installed")
    with guarded_process(tmp_path_factory.mktemp("guarded")) as url:
        yield url


def ask(url: str, user: str, password: str, path: str, body: dict[str, str] | None = None) -> int:
    method = "POST" if body else "GET"
    address = f"{url}/api/2.0/mlflow/{path}"
    return httpx.request(method, address, json=body, auth=(user, password), timeout=30.0, trust_env=False).status_code


def test_users_get_their_rights_and_new_passwords_the_place_of_the_old(mlflow: str) -> None:
    passwords = {name: f"{name}-before-0123" for name in ("promoter", "reader", "trainer")}
    users = MlflowUsers(mlflow, FIRST)
    users.ensure(passwords)
    users.ensure_model("toy")
    users.ensure_model("toy")
    for name, password in passwords.items():
        assert ask(mlflow, name, password, "registered-models/get?name=toy") == 200, name
    run, tag = {"experiment_id": "0"}, {"name": "toy", "key": "k", "value": "v"}
    runs = {name: ask(mlflow, name, passwords[name], "runs/create", run) for name in passwords}
    assert runs == {"promoter": 200, "reader": 403, "trainer": 200}
    tags = {name: ask(mlflow, name, passwords[name], "registered-models/set-tag", tag) for name in passwords}
    assert tags == {"promoter": 200, "reader": 403, "trainer": 403}
    assert ask(mlflow, "trainer", passwords["trainer"], "users/create", {"username": "x", "password": "y" * 12}) == 403

    # As after two rotations of which the first never came into force.
    renewed = {name: f"{name}-after-01234" for name in passwords}
    MlflowUsers(mlflow, "third-password-of-the-admin", ["second-password", FIRST]).ensure(renewed)
    assert ask(mlflow, "admin", FIRST, "users/current") == 401
    for name, password in passwords.items():
        assert ask(mlflow, name, password, "registered-models/get?name=toy") == 401
        assert ask(mlflow, name, renewed[name], "registered-models/get?name=toy") == 200


def test_a_home_that_knows_another_password_is_refused_without_showing_it(mlflow: str) -> None:
    with pytest.raises(UsageError, match="another password than this home") as refused:
        MlflowUsers(mlflow, "canary-one-0123", ["canary-two-0123"]).ensure({"reader": "canary-three-0"})
    assert "canary" not in repr(refused.value)


def test_a_registry_that_does_not_answer_is_said() -> None:
    with pytest.raises(RegistryUnavailable, match="does not answer: ConnectError"):
        MlflowUsers(f"http://127.0.0.1:{free_port()}", "p").ensure({})
