"""A project of one model asks an installation that has not got it: the real command line against a real API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.settings.models import model_name
from pipelines.settings.settings import ROOT, Settings
from pipelines.settings.tokens import make_tokens
from pipelines.wiring.stores import open_checkpoints
from tests.support.servers.servers import await_http, free_port
from tests.support.world.records import put_in_force
from tests.support.world.verbs import run_module

OTHER = "other-model"


class Operator:
    """Types at a machine where the API of an installation runs."""

    def __init__(self, environ: dict[str, str], records: SqlRecords, project: Path) -> None:
        self.records = records
        self._environ = environ
        self._project = project

    def slipway(self, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return run_module("pipelines.cli", words, cwd=ROOT, environ={**self._environ, **environ}, timeout_s=120)

    def elsewhere(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb in the project of the other model."""
        return self.slipway(*words, SLIPWAY_PROJECT=str(self._project))


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home, project = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    home.chmod(0o700)
    make_tokens(home / "tokens.json")
    (project / "model.yaml").write_text(f"name: {OTHER}\n")
    environ = {**os.environ, "SLIPWAY_HOME": str(home), "SLIPWAY_PROJECT": str(ROOT), "TARGET": "local"}
    environ |= {f"SLIPWAY_PORT_{name}": str(free_port()) for name in ("STAGING", "PRODUCTION", "API", "MLFLOW")}
    settings = Settings.from_environ(environ)
    records = SqlRecords(settings.database_url, open_checkpoints(settings))
    put_in_force(records)
    log = home / "api.log"
    with log.open("wb") as output:
        api = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "api"], cwd=ROOT, env=environ, stdout=output, stderr=output
        )
        try:
            await_http(f"{settings.api_url}/health", api, log)
            yield Operator(environ, records, project)
        finally:
            api.terminate()
            api.wait(20)
            records.close()


@pytest.mark.parametrize(
    "words",
    [
        ("deploy-staging", "--version", "1"),
        ("promote", "--version", "1", "--no-wait"),
        ("approve", "--version", "1", "--as", "bob"),
        ("reject", "--version", "1", "--reason", "why", "--as", "bob"),
        ("rollback",),
        ("policy", "apply", "policy.yaml"),
        ("candidate",),
        ("loadtest",),
        ("status",),
        ("history",),
    ],
    ids=lambda words: words[0],
)
def test_another_model_is_refused_by_both_names_and_nothing_changes(operator: Operator, words: tuple[str, ...]) -> None:
    ended = operator.elsewhere(*words)

    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    message, told = ended.stderr.strip().splitlines()
    assert model_name(ROOT) in message
    assert f"'{OTHER}'" in message
    assert told.startswith("next: name one of these")
    assert list(operator.records.audit_trail()) == []


def test_the_project_of_the_model_is_answered(operator: Operator) -> None:
    ended = operator.slipway("status", "--json")

    assert ended.returncode == 0, ended.stderr
    body: dict[str, Any] = json.loads(ended.stdout)
    assert body["model"] == model_name(ROOT)
    assert operator.slipway("rollback", "--env", "moon").returncode == 2


def test_a_project_without_a_model_is_told_so(operator: Operator, tmp_path: Path) -> None:
    ended = operator.slipway("status", SLIPWAY_PROJECT=str(tmp_path))

    assert ended.returncode == 2
    assert "model.yaml can't be read" in ended.stderr
