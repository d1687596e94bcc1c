"""Terraform's own checks of every module, and what a module has to look like."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.terraform.conftest import INFRA, MODULES, Terraform

FILES = {"README.md", "main.tf", "outputs.tf", "variables.tf", "versions.tf"}

_BLOCK = re.compile(r'^(variable|output) "([a-z0-9_]+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"expect_failures = \[([^\]]*)\]")
_FOREIGN = re.compile(
    r'provisioner "|resource "(?!docker_)|data "(?!docker_)'
    r'|source *= "(?!\./modules/|\.\./service"|kreuzwerker/docker")'
)


def test_everything_is_formatted(terraform: Terraform) -> None:
    done = terraform(".", "fmt", "-check", "-recursive", "-diff", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_is_valid(module: str, terraform: Terraform) -> None:
    done = terraform(module, "validate", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_passes_its_own_tests(module: str, terraform: Terraform) -> None:
    done = terraform(module, "test", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! [1-9][0-9]* passed, 0 failed", done.stdout), done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_the_files_of_every_module(name: str) -> None:
    place = INFRA / name
    code = {path.name for path in place.iterdir() if path.suffix in {".tf", ".md"}}

    assert code == FILES
    assert list((place / "tests").glob("*.tftest.hcl"))


@pytest.mark.parametrize("name", MODULES)
def test_variables_and_outputs_are_sorted_and_say_what_they_are(name: str) -> None:
    for file in ("variables.tf", "outputs.tf"):
        blocks = _BLOCK.findall((INFRA / name / file).read_text())
        names = [block for _, block, _ in blocks]
        assert names == sorted(names), file
        for kind, block, body in blocks:
            assert re.search(r'^  description = ".{10,}"$', body, re.MULTILINE), block
            if kind == "variable":
                assert re.search(r"^  type +=", body, re.MULTILINE), block
                null = re.search(r"^  default +?= null$", body, re.MULTILINE)
                assert null or re.search(r"^  nullable += false$", body, re.MULTILINE), block


@pytest.mark.parametrize("name", MODULES)
def test_every_rule_is_seen_to_refuse(name: str) -> None:
    rules = Counter(
        {
            block: body.count("validation {")
            for _, block, body in _BLOCK.findall((INFRA / name / "variables.tf").read_text())
        }
    )
    tests = "\n".join(path.read_text() for path in (INFRA / name / "tests").glob("*.tftest.hcl"))
    refusals = Counter(re.findall(r"var\.([a-z0-9_]+)", " ".join(_EXPECTED.findall(tests))))

    assert rules - refusals == Counter()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_needs_nothing_but_the_engines_provider(name: str) -> None:
    for path in (INFRA / name).glob("*.tf"):
        assert _FOREIGN.findall(path.read_text()) == [], path


def test_services_are_made_where_their_confinement_is_tested() -> None:
    made = {path.parent.name for path in INFRA.rglob("*.tf") if 'resource "docker_service"' in path.read_text()}

    assert made == {"environment", "service"}


def test_who_calls_the_service_is_refused_what_it_refuses(
    terraform: Terraform, initialised: Callable[[str], str], tmp_path: Path
) -> None:
    given = {
        "databases": ["one"],
        "image": "slipway/postgres:latest",
        "limits": {"cpus": 0.05, "memory_mb": 32},
        "networks": {"database": "n1"},
        "owned": [],
        "placement": [],
        "secrets": {"postgres": {"id": "hunter2", "name": "x"}, "one-database": {"id": "s" * 25, "name": "y"}},
    }
    file = tmp_path / "given.tfvars.json"
    file.write_text(json.dumps(given))

    done = terraform(initialised("modules/database"), "plan", "-no-color", f"-var-file={file}")

    assert done.returncode == 1
    said = " ".join(done.stderr.replace("│", "").split())
    forms = ("a tag can be moved", "from 0.1 to 64", "at least 64", "one or more constraints", "must not come here")
    assert [form for form in forms if form not in said] == [], said
