"""A local home whose files are lost, or which another project names: the real verbs on real processes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.installation import Installation

OTHER = "other-model"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("local"))
    try:
        made.done("up")
        yield made
    finally:
        made.remove()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project of another model."""
    (tmp_path / "model.yaml").write_text(f"name: {OTHER}\n")
    return tmp_path


def processes(installation: Installation) -> dict[str, list[Any]]:
    recorded: dict[str, list[Any]] = json.loads((installation.home / "run" / "processes.json").read_text())
    assert all(psutil.pid_exists(int(pid)) for pid, _ in recorded.values())
    return recorded


def files(installation: Installation) -> dict[str, bytes]:
    return {name: (installation.home / name).read_bytes() for name in ("installation.json", "tokens.json")}


@pytest.mark.parametrize("verb", ["up", "demo", "down"])
def test_another_model_is_refused_before_anything_changes(installation: Installation, project: Path, verb: str) -> None:
    before = processes(installation), files(installation)
    ended = installation.slipway(verb, SLIPWAY_PROJECT=str(project))
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert "'churn-model'" in ended.stderr and f"'{OTHER}'" in ended.stderr and "next: " in ended.stderr
    assert (processes(installation), files(installation)) == before


@pytest.mark.parametrize("damaged", [True, False])
def test_a_lost_record_is_written_anew_with_the_id_that_the_api_knows(
    installation: Installation, damaged: bool
) -> None:
    before = processes(installation), files(installation)
    record = installation.home / "installation.json"
    if damaged:
        record.write_text("{")
        refused = installation.slipway("status")
        assert refused.returncode == 2 and "remove it" in refused.stderr
    record.unlink()
    installation.done("up")
    assert (processes(installation), files(installation)) == before
    assert installation.read("status")["model"] == "churn-model"


def test_without_the_record_and_what_the_api_was_told_the_api_alone_is_started_anew(
    installation: Installation,
) -> None:
    before = processes(installation)
    (installation.home / "installation.json").unlink()
    (installation.home / "run" / "api-told.json").unlink()
    installation.done("up")
    assert [name for name, found in processes(installation).items() if found != before[name]] == ["api"]
    assert installation.read("status")["model"] == "churn-model"


def test_tokens_that_were_changed_or_removed_are_in_force_after_up(installation: Installation) -> None:
    tokens = installation.home / "tokens.json"
    tokens.write_text(json.dumps({**json.loads(tokens.read_text()), "carol": "carols-token"}))
    installation.done("up")
    installation.done("status", "--as", "carol")
    tokens.unlink()
    installation.done("up")
    installation.done("status")
    assert installation.slipway("status", SLIPWAY_TOKEN="carols-token").returncode == 3


def test_tokens_without_the_operators_are_refused_with_what_to_do(installation: Installation) -> None:
    tokens, before = installation.home / "tokens.json", processes(installation)
    kept = tokens.read_text()
    tokens.write_text(json.dumps({"carol": "carols-token"}))
    try:
        ended = installation.slipway("up")
    finally:
        tokens.write_text(kept)
    assert ended.returncode == 2, ended.stderr
    assert "has no token for alice" in ended.stderr and "add one, or remove the file" in ended.stderr
    assert processes(installation) == before
