"""The secrets of an installation that was never up: made, changed, and removed with its home."""

import dataclasses
import json
from pathlib import Path

import pytest

from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.errors import OtherModel
from pipelines.operator.secrets import rotate_secrets
from pipelines.settings.installation import begin_record, keep_record
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import read_tokens


def ignore(line: str) -> None:
    pass


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"TARGET": "docker", "SLIPWAY_HOME": str(tmp_path / "home")})


def test_secrets_that_are_made_before_the_first_up_come_with_tokens(settings: Settings) -> None:
    names = rotate_secrets("", settings, {}, ignore)
    assert "postgres" in names
    # By these destroy knows a home.
    assert set(read_tokens(settings.tokens_file)) == {"alice", "bob"}
    assert settings.home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["all", "tokens"])
def test_rotating_before_the_first_up_is_in_force_with_it(settings: Settings, name: str) -> None:
    told: list[str] = []
    assert "tokens" in rotate_secrets(name, settings, {}, told.append)
    assert told == ['in force with the next "make up"']
    first = SecretStore(settings.home / "secrets.json", settings.tokens_file).mounted()
    rotate_secrets(name, settings, {}, ignore)
    second = SecretStore(settings.home / "secrets.json", settings.tokens_file).mounted()
    assert set(json.loads(first["tokens"])) == set(json.loads(second["tokens"]))
    assert first["tokens"] != second["tokens"]


def test_the_secrets_of_another_models_installation_are_not_rotated(settings: Settings, tmp_path: Path) -> None:
    rotate_secrets("", settings, {}, ignore)
    begin_record(settings)
    keep_record(settings)
    (tmp_path / "model.yaml").write_text("name: other-model\n")
    before = (settings.home / "secrets.json").read_bytes()
    with pytest.raises(OtherModel):
        rotate_secrets("all", dataclasses.replace(settings, project=tmp_path), {}, ignore)
    assert (settings.home / "secrets.json").read_bytes() == before
