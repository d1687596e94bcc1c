"""Writes the schemas of all formats that cross a border into docs/reference, and says which of them are out of date.

A schema comes from the code that reads or answers the format, never by hand; a test holds the files to it.
"""

import json
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipelines.settings.settings import ROOT

REFERENCE = ROOT / "docs" / "reference"

# File name -> the function without arguments that returns the schema, as `module:function`. They are looked up by
# name, because a developer's tool sees all parts of the project, while these never import each other.
SCHEMAS = {
    "api.openapi.json": "pipelines.api.app:describe_api",
    "backup.schema.json": "pipelines.domain.backup:describe_backup",
    "infra-file.schema.json": "pipelines.adapters.containers.infra_file:describe_infra_file",
    "installation.schema.json": "pipelines.settings.installation:describe_installation",
    "terraform-outputs.schema.json": "pipelines.settings.terraform_outputs:describe_stack",
    # The service describes the features of what it serves: here, those of the tests' example bundle.
    "app.openapi.json": "tests.support.world.served:describe_service",
    "bundle.schema.json": "pipelines.domain.description:describe",
    "faults.md": "bench.faults.catalogue:describe_faults",
    "gates.md": "pipelines.evaluation.gates.reference:describe_gates",
    "load-capacity.schema.json": "loadtests.runner.capacity:describe_capacity",
    "load-plan.schema.json": "loadtests.plan.plan:describe_plan",
    "load-result.schema.json": "loadtests.runner.result:describe_result",
    "policy.schema.json": "pipelines.evaluation.gates.reference:describe_policy",
    "report.schema.json": "pipelines.domain.report:describe",
}
# What is made by trying, which takes a minute.
TRIED = {"estimators.md": "tests.support.world.estimator_table:describe_estimators"}


def schema_text(name: str) -> str:
    """Return what the file `name` of docs/reference has to say: a page as it is, a schema as JSON."""
    describe: Callable[[], dict[str, Any] | str] = pkgutil.resolve_name({**SCHEMAS, **TRIED}[name])
    described = describe()
    if isinstance(described, str):
        return described
    return json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_reference(directory: Path = REFERENCE, names: Iterable[str] = (*SCHEMAS, *TRIED)) -> list[str]:
    """Write the files `names` into `directory`; return the names of those that changed."""
    directory.mkdir(parents=True, exist_ok=True)
    changed = []
    for name in names:
        path, text = directory / name, schema_text(name)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(name)
    return changed
