"""Terraform for tests: run in a copy of `infra`, with the provider that this machine has, out of any engine's reach."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers.needs import skip_without_containers

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
TOOLS = Path(os.environ.get("SLIPWAY_TOOLS") or ROOT / ".tools")
MODULES = [".", *sorted(f"modules/{path.name}" for path in (INFRA / "modules").iterdir())]
LIMIT_S = 240

Terraform = Callable[..., subprocess.CompletedProcess[str]]
Planned = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Run terraform in one module of the copy: the module, then terraform's words."""
    if not shutil.which("terraform"):
        skip_without_containers("no terraform on the path; next: install Terraform 1.11 or later")
    place = tmp_path_factory.mktemp("terraform")
    shutil.copytree(INFRA, place / "infra", ignore=shutil.ignore_patterns("images", "offline", ".terraform*"))
    shutil.copy(ROOT / "model.yaml", place)
    environ = {
        **os.environ,
        "CHECKPOINT_DISABLE": "1",
        "DOCKER_HOST": "unix:///nowhere.sock",
        "TF_IN_AUTOMATION": "1",
    }
    if (settings := TOOLS / "terraform.rc").exists():
        environ["TF_CLI_CONFIG_FILE"] = str(settings)

    def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["terraform", f"-chdir={place / 'infra' / module}", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    return run


@pytest.fixture(scope="session")
def initialised(terraform: Terraform) -> Callable[[str], str]:
    """Return a module's name once its provider is there; skip where it can't be had."""
    done: set[str] = set()

    def once(module: str) -> str:
        if module not in done:
            ended = terraform(module, "init", "-backend=false", "-input=false", "-no-color")
            if "Failed to query available provider packages" in ended.stderr:
                skip_without_containers("the provider kreuzwerker/docker can't be had here; next: make offline")
            assert ended.returncode == 0, ended.stderr
            done.add(module)
        return module

    return once


@pytest.fixture(scope="session")
def planned(
    terraform: Terraform, initialised: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Planned:
    """Return what a module, with those it calls, would make with these variables: address -> values."""

    def once(name: str, **variables: Any) -> dict[str, Any]:
        place = tmp_path_factory.mktemp("planned")
        given, plan = place / "given.tfvars.json", place / "plan"
        given.write_text(json.dumps(variables))
        module = initialised(name)
        done = terraform(module, "plan", "-refresh=false", "-no-color", f"-var-file={given}", f"-out={plan}")
        assert done.returncode == 0, done.stderr
        shown = json.loads(terraform(module, "show", "-json", str(plan)).stdout)
        return {each["address"]: each["values"] for each in resources_of(shown["planned_values"]["root_module"])}

    return once


def resources_of(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources_of(child)


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest, initialised: Callable[[str], str]) -> str:
    """Every module in turn."""
    return initialised(request.param)
