import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.domain.release import Environment
from pipelines.errors import TargetUnavailable, UsageError
from pipelines.settings.models import model_name
from pipelines.settings.settings import ROOT, Settings, TargetName
from tests.support.world.stacks import stack_body


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environ({})

    local = TargetName.LOCAL
    assert settings == Settings(local, ROOT, ROOT, ROOT / ".slipway", 8000, 8001, 8080, 5000, 9000, 5001, "slipway")


def test_containers_have_a_home_of_their_own(tmp_path: Path) -> None:
    settings = Settings.from_environ({"TARGET": "docker", "SLIPWAY_PROJECT": str(tmp_path)})
    assert (settings.target, settings.home) == (TargetName.DOCKER, tmp_path / ".slipway-docker")
    assert settings.runtime is None


CONTAINER = {
    "TARGET": "docker",
    "MLFLOW_TRACKING_URI": "http://slipway-mlflow:5000",
    "MLFLOW_TRACKING_USERNAME": "promoter",
    "MLFLOW_TRACKING_PASSWORD": "secret-1",
    "AWS_ACCESS_KEY_ID": "audit",
    "AWS_SECRET_ACCESS_KEY": "secret-2",
    "PGHOST": "slipway-postgres",
    "PGPORT": "5432",
    "PGPASSWORD": "se/cret@3",
    "WORKFLOWS_DATABASE_PASSWORD": "secret-4",
}


def test_a_process_in_a_container_takes_what_its_surroundings_say(tmp_path: Path) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(json.dumps(stack_body()))
    settings = Settings.from_environ({**CONTAINER, "SLIPWAY_STACK": str(stack)})
    assert settings.mlflow_url == "http://slipway-mlflow:5000"
    assert settings.database_url == "postgresql://slipway:se%2Fcret%403@slipway-postgres:5432/slipway"
    assert settings.workflows_url == "postgresql://workflows:secret-4@slipway-postgres:5432/workflows"
    assert settings.tokens_file == Path("/run/secrets/tokens")
    assert settings.api_host == "0.0.0.0"
    assert "secret" not in repr(settings).replace("/run/secrets", "")


@pytest.mark.parametrize("missing", ["MLFLOW_TRACKING_PASSWORD", "AWS_ACCESS_KEY_ID", "PGHOST"])
def test_a_container_that_lacks_something_says_what(missing: str, tmp_path: Path) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(json.dumps(stack_body()))
    given = {name: value for name, value in CONTAINER.items() if name != missing}
    with pytest.raises(UsageError, match=missing):
        Settings.from_environ({**given, "SLIPWAY_STACK": str(stack)})


def test_empty_values_count_as_not_given() -> None:
    names = ("TARGET", "SLIPWAY_HOME", "SLIPWAY_PROJECT", "SLIPWAY_PORT_API")

    assert Settings.from_environ(dict.fromkeys(names, "")) == Settings.from_environ({})


def test_the_home_lies_in_the_project_unless_it_is_given(tmp_path: Path) -> None:
    assert Settings.from_environ({"SLIPWAY_PROJECT": str(tmp_path)}).home == tmp_path / ".slipway"
    given = {"SLIPWAY_PROJECT": str(tmp_path), "SLIPWAY_HOME": str(tmp_path / "elsewhere")}
    assert Settings.from_environ(given).home == tmp_path / "elsewhere"


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings.from_environ({"SLIPWAY_HOME": "state"}).home == tmp_path / "state"


@pytest.mark.parametrize("target", ["Docker", "Local", "k8s"])
def test_a_target_that_does_not_exist_is_refused(target: str) -> None:
    with pytest.raises(TargetUnavailable, match=target):
        Settings.from_environ({"TARGET": target})


@pytest.mark.parametrize("name", ["STAGING", "PRODUCTION", "API", "MLFLOW"])
@pytest.mark.parametrize(
    "port", ["0", "65536", "-1", "http", "80.0", " 80", "8_0", "\u00b2", "\u0661\u0662", "9" * 5000]
)
def test_what_is_no_port_is_refused_by_the_name_of_its_setting(name: str, port: str) -> None:
    with pytest.raises(UsageError, match=f"SLIPWAY_PORT_{name}"):
        Settings.from_environ({f"SLIPWAY_PORT_{name}": port})


@pytest.mark.parametrize("port", ["1", "65535"])
def test_the_first_and_the_last_port_are_taken(port: str) -> None:
    assert Settings.from_environ({"SLIPWAY_PORT_API": port}).api_port == int(port)


def test_one_port_for_two_things_is_refused() -> None:
    with pytest.raises(UsageError, match="same port"):
        Settings.from_environ({"SLIPWAY_PORT_API": "8000"})


def test_a_port_that_only_containers_have_is_free_for_others_without_them() -> None:
    assert Settings.from_environ({"SLIPWAY_PORT_API": "9000"}).api_port == 9000
    with pytest.raises(UsageError, match="same port"):
        Settings.from_environ({"SLIPWAY_PORT_API": "9000", "TARGET": "docker"})


def test_a_child_process_reads_the_same_settings(tmp_path: Path) -> None:
    environ = {"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_PROJECT": str(tmp_path), "SLIPWAY_PORT_API": "8099"}
    for name in ("SLIPWAY_INFRA", "SLIPWAY_S3_KEYS", "SLIPWAY_REGISTRY_LOGIN"):
        environ[name] = str(tmp_path / f"{name}.json")
    settings = Settings.from_environ(environ)

    child = settings.child_environ({"PATH": "/bin"})

    assert Settings.from_environ(child) == settings
    assert child["PATH"] == "/bin"


def test_everything_derived_lies_in_the_home_and_on_the_loopback(tmp_path: Path) -> None:
    settings = replace(Settings.from_environ({}), home=tmp_path)

    assert settings.port(settings.endpoint(Environment.STAGING)) == 8000
    assert settings.port(settings.endpoint(Environment.PRODUCTION)) == 8001
    assert (settings.api_url, settings.mlflow_url) == ("http://127.0.0.1:8080", "http://127.0.0.1:5000")
    assert settings.database_url == f"sqlite:///{tmp_path}/slipway.db"
    assert settings.workflows_url == f"sqlite:///{tmp_path}/workflows.db"
    assert {path.parent for path in (settings.tokens_file, settings.checkpoints_file, settings.logs)} == {tmp_path}


@pytest.mark.parametrize(
    "text",
    ["name: toy-model", 'title: x\nname: "toy-model"  # why', "name: 'toy-model'", "  name: inner\nname: toy-model"],
)
def test_the_model_is_the_one_that_model_yaml_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.yaml").write_text(text)

    assert model_name(tmp_path) == "toy-model"


@pytest.mark.parametrize("text", ["", "# name: x", "  name: inner", "name:", 'name: ""', "name: # later"])
def test_a_model_yaml_without_a_name_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.yaml").write_text(text)

    with pytest.raises(UsageError, match="names no model"):
        model_name(tmp_path)


def test_a_project_without_a_model_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.yaml can't be read"):
        model_name(tmp_path)


def test_this_repository_names_its_model() -> None:
    assert model_name(ROOT) == "churn-model"


@pytest.mark.parametrize("prefix", ["Team", "a", "1a", "-a", "a-", "a_b", "a b", "a\n", "a" * 25, "\u00e4b"])
def test_what_terraform_would_refuse_as_a_prefix_is_refused_before_anything_is_made(prefix: str) -> None:
    with pytest.raises(UsageError, match="SLIPWAY_PREFIX="):
        Settings.from_environ({"SLIPWAY_PREFIX": prefix})


def test_prefixes_are_judged_as_terraform_does() -> None:
    told = re.search(r'regex\("(.*)", var\.prefix\)', (ROOT / "infra" / "variables.tf").read_text())
    assert told
    for prefix in ("ab", "team-1", "a" * 24):
        assert re.search(told[1], prefix)
        assert Settings.from_environ({"SLIPWAY_PREFIX": prefix}).prefix == prefix
