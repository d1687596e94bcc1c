"""What may be chosen of the shape of an installation, and how a file that chooses something else is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.infra_file import Choices, read_choices
from pipelines.bootstrap_docker import open_docker_stack
from pipelines.errors import UsageError
from pipelines.settings import ROOT, Settings

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
    found = read(tmp_path, {"environments": environments, "limits": limits, "retention_days": 30})
    assert found == Choices({"environments": environments, "limits": limits}, 30)
    assert re.findall(r"(\w+) += optional\(number", variable("environments")) == list(REPLICA)
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
        ({"replicas": 3}, "replicas can't be chosen", "environments, limits, retention_days"),
        ({"prefix": "x"}, "prefix can't be chosen", "environments, limits"),
        (
            {"object_store_external": {"endpoint": "https://s3"}},
            "object_store_external is for infra/ by itself",
            "leave",
        ),
        ({"environments": {"test": {}}}, "environments.test can't be chosen", "production, staging"),
        ({"environments": {"staging": {"replica": 2}}}, "environments.staging.replica can't be chosen", "replicas"),
        ({"environments": {"staging": 2}}, "environments.staging is not an object", "name"),
        ({"limits": {"minio": {}}}, "limits.minio can't be chosen", "object_store"),
        ({"limits": {"edge": {"memory": 64}}}, "limits.edge.memory can't be chosen", "memory_mb"),
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


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "infra.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="can't be read as JSON") as refused:
        read_choices(None, file)
    assert "SLIPWAY_INFRA" in refused.value.next


def test_whoever_opens_an_installation_reads_the_file_of_its_home(tmp_path: Path) -> None:
    (tmp_path / "infra.json").write_text('{"replicas": 3}')
    settings = Settings.from_environ({"TARGET": "docker", "SLIPWAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="replicas can't be chosen"):
        open_docker_stack(settings, {})
