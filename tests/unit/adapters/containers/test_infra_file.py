"""What may be chosen of the options of an installation, and how a file that chooses something else is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.containers.infra_file import Choices, read_choices
from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.storage.external_store import ExternalStore
from pipelines.adapters.storage.object_store import Buckets
from pipelines.errors import UsageError
from pipelines.settings.settings import ROOT, Settings
from pipelines.wiring.docker import open_installation

VARIABLES = (ROOT / "infra" / "variables.tf").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
REPLICA = {"cpus": 2, "memory_mb": 1024, "replicas": 4}
SERVICES = ("api", "database", "edge", "executor", "image_registry", "model_registry", "object_store")


def read(tmp_path: Path, chosen: object) -> Choices:
    file = tmp_path / "infra.json"
    file.write_text(json.dumps(chosen))
    return read_choices(None, file)


def variable(name: str) -> str:
    return VARIABLES.split(f'variable "{name}" {{', 1)[1].split("\n}\n", 1)[0].split("\n  default", 1)[0]


def test_all_that_terraform_knows_of_replicas_and_limits_can_be_chosen(tmp_path: Path) -> None:
    environments = {"production": REPLICA, "staging": REPLICA}
    limits = {name: {"cpus": 1, "memory_mb": 256} for name in SERVICES}
    models = {"second": {"production": REPLICA}}
    found = read(tmp_path, {"environments": environments, "limits": limits, "models": models, "retention_days": 30})
    assert found == Choices({"environments": environments, "limits": limits}, 30, models=models)
    for name in ("environments", "models"):
        assert re.findall(r"(\w+) += optional\(number", variable(name)) == list(REPLICA)
    assert re.findall(r"(\w+) += optional\(object", variable("limits")) == list(SERVICES)


def test_nothing_chosen_is_the_default_and_the_documented_example_is_taken(tmp_path: Path) -> None:
    assert read_choices(None, tmp_path / "none") == read(tmp_path, {}) == Choices({}, 365)
    example = OPERATIONS.split("\n## Containers: replicas, limits and days\n", 1)[1].split("```\n")[1]
    assert read(tmp_path, json.loads(example)).retention_days == 30


def test_a_file_that_is_named_goes_before_the_usual_one_and_has_to_be_there(tmp_path: Path) -> None:
    named, usual = tmp_path / "named.json", tmp_path / "infra.json"
    usual.write_text('{"retention_days": 1}')
    with pytest.raises(UsageError, match="can't be read as JSON"):
        read_choices(named, usual)
    named.write_text('{"retention_days": 2}')
    assert read_choices(named, usual).retention_days == 2


@pytest.mark.parametrize(
    ("chosen", "why", "next"),
    [
        ([], "it is not an object", "name"),
        (
            {"replicas": 3},
            "replicas can't be chosen",
            "environments, image_registry, limits, models, object_store, retention_days",
        ),
        ({"prefix": "x"}, "prefix can't be chosen", "environments, image_registry, limits"),
        ({"object_store_external": {}}, "object_store_external can't be chosen", "object_store"),
        ({"environments": {"test": {}}}, "environments.test can't be chosen", "production, staging"),
        ({"environments": {"staging": {"replica": 2}}}, "environments.staging.replica can't be chosen", "replicas"),
        ({"environments": {"staging": 2}}, "environments.staging is not an object", "name"),
        ({"limits": {"minio": {}}}, "limits.minio can't be chosen", "object_store"),
        ({"limits": {"edge": {"memory": 64}}}, "limits.edge.memory can't be chosen", "memory_mb"),
        ({"models": {"m": {"test": {}}}}, "models.m.test can't be chosen", "production, staging"),
        ({"models": {"m": {"staging": {"memory": 1}}}}, "models.m.staging.memory can't be chosen", "memory_mb"),
        ({"models": {"m": 2}}, "models.m is not an object", "name"),
        ({"models": 2}, "models is not an object", "name"),
        ({"retention_days": 0}, "retention_days=0", "from 1"),
        ({"retention_days": True}, "retention_days=True", "whole number"),
        ({"retention_days": 1.5}, "retention_days=1.5", "whole number"),
        ({"retention_days": 36_501}, "retention_days=36501", "36500"),
    ],
)
def test_what_can_not_be_chosen_is_refused_by_its_name(tmp_path: Path, chosen: Any, why: str, next: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        read(tmp_path, chosen)
    assert next in refused.value.next


def test_what_others_run_is_named_by_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    found = read(
        tmp_path,
        {
            "object_store": {
                "endpoint": "https://s3.example.com",
                "authority": "ca.pem",
                "buckets": {"dvc": "our-data"},
            },
            "image_registry": {"address": "registry.example.com:5000/team"},
        },
    )
    buckets = Buckets("mlflow", "our-data", "audit-heads")
    endpoint = "https://s3.example.com"
    assert found.object_store == ExternalStore(endpoint, endpoint, "us-east-1", buckets, tmp_path / "ca.pem")
    assert found.image_registry == ExternalRegistry("registry.example.com:5000/team")
    assert found.image_registry.host == "registry.example.com:5000"
    assert found.variables == {}


def test_the_documented_example_of_what_others_run_is_taken(tmp_path: Path) -> None:
    section = OPERATIONS.split("\n## Containers: an object store or image registry of your own\n", 1)[1]
    found = read(tmp_path, json.loads(section.split("```\n")[1]))
    assert found.object_store and found.object_store.url == found.object_store.endpoint
    assert found.image_registry and found.image_registry.address == "registry.example.com/team"


@pytest.mark.parametrize(
    ("part", "chosen", "why"),
    [
        ("object_store", "https://s3", "object_store is not an object"),
        ("object_store", {}, "object_store.endpoint is missing"),
        ("object_store", {"endpoint": "s3.example.com"}, "object_store.endpoint can't be 's3.example.com'"),
        ("object_store", {"endpoint": "https://key:pass@s3"}, "object_store.endpoint can't be"),
        ("object_store", {"endpoint": "https://s3/bucket"}, "object_store.endpoint can't be"),
        ("object_store", {"endpoint": "https://my_store:9000"}, "object_store.endpoint can't be"),
        ("object_store", {"endpoint": "http://[::1"}, "object_store.endpoint can't be"),
        ("object_store", {"endpoint": 9000}, "object_store.endpoint can't be '9000'"),
        ("object_store", {"endpoint": "http://127.0.0.1:9000"}, "in a container is the container itself"),
        ("object_store", {"endpoint": "http://localhost:9000"}, "in a container is the container itself"),
        ("object_store", {"endpoint": "http://[::1]:9000"}, "in a container is the container itself"),
        ("object_store", {"endpoint": "https://s3", "url": "s3"}, "object_store.url can't be"),
        ("object_store", {"endpoint": "https://s3", "region": ""}, "object_store.region can't be"),
        ("object_store", {"endpoint": "https://s3", "key": "x"}, "object_store.key can't be chosen"),
        ("object_store", {"endpoint": "https://s3", "authority": "none.pem"}, "none.pem is not there"),
        ("object_store", {"endpoint": "https://s3", "authority": ""}, "object_store.authority can't be"),
        ("object_store", {"endpoint": "https://s3", "buckets": {"audit": "x"}}, "buckets.audit can't be chosen"),
        ("object_store", {"endpoint": "https://s3", "buckets": {"dvc": "A"}}, "object_store.buckets.dvc can't be"),
        ("image_registry", {}, "image_registry.address is missing"),
        ("image_registry", {"address": "https://registry"}, "image_registry.address can't be"),
        ("image_registry", {"address": "127.0.0.1:5000"}, "in a container is the container itself"),
        ("image_registry", {"address": "registry", "login": "x"}, "image_registry.login can't be chosen"),
    ],
)
def test_what_can_not_be_outside_is_refused_by_its_name(tmp_path: Path, part: str, chosen: Any, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        read(tmp_path, {part: chosen})
    assert refused.value.next


def test_places_are_judged_as_terraform_does() -> None:
    for name, place in (
        ("object_store_external", "https://s3.example.com"),
        ("image_registry_external", "r.example/a"),
    ):
        told = re.search(rf'variable "{name}".*?regex\("([^"]+)"', VARIABLES, re.DOTALL)
        assert told
        form = told[1].replace("\\\\", "\\")
        assert re.search(form, place) and not re.search(form, "x://y@z")


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "infra.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="can't be read as JSON") as refused:
        read_choices(None, file)
    assert "SLIPWAY_INFRA" in refused.value.next


def test_projects_of_models_that_contradict_keep_nobody_from_opening_an_installation(tmp_path: Path) -> None:
    for folder, name in ((tmp_path, "default"), (tmp_path / "models" / "second", "other")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.yaml").write_text(f"name: {name}\n")
    settings = Settings.from_environ({"TARGET": "docker", "SLIPWAY_PROJECT": str(tmp_path)})
    installation = open_installation(settings, {"PATH": ""})
    with pytest.raises(UsageError, match="nothing was brought up from this home"):
        installation.down(lambda line: None)


def test_whoever_opens_an_installation_reads_the_file_of_its_home(tmp_path: Path) -> None:
    (tmp_path / "infra.json").write_text('{"replicas": 3}')
    settings = Settings.from_environ({"TARGET": "docker", "SLIPWAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="replicas can't be chosen"):
        open_installation(settings, {})
