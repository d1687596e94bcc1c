"""What a home remembers of its installation, and which verbs it lets do what."""

import json
from pathlib import Path

import pytest

from pipelines.errors import OtherModel, UsageError
from pipelines.settings.installation import (
    FILE,
    InstallationRecord,
    begin_record,
    installation_id,
    keep_record,
    refuse_other_model,
    settings_of_home,
)
from pipelines.settings.settings import Settings

PORTS = {"SLIPWAY_PORT_API": "8123", "SLIPWAY_PORT_STAGING": "8124"}


def brought_up(home: Path, **environ: str) -> dict[str, str]:
    """Return the environment that names a home in which `up` was run with these variables besides."""
    home.mkdir(exist_ok=True)
    named = {"SLIPWAY_HOME": str(home)}
    settings = settings_of_home({**named, **environ}, moving=True)
    begin_record(settings)
    keep_record(settings)
    return named


def test_a_verb_without_the_variables_goes_by_what_up_was_given(tmp_path: Path) -> None:
    named = brought_up(tmp_path / "home", **PORTS)
    settings = settings_of_home(named)
    assert (settings.api_port, settings.staging_port, settings.production_port) == (8123, 8124, 8001)
    assert settings_of_home({**named, **PORTS}) == settings_of_home({**named, "SLIPWAY_PORT_API": ""}) == settings


def test_a_home_of_before_works_and_is_remembered_from_the_next_up_on(tmp_path: Path) -> None:
    named = {"SLIPWAY_HOME": str(tmp_path)}
    assert settings_of_home({**named, **PORTS}) == Settings.from_environ({**named, **PORTS})
    assert installation_id(settings_of_home(named)) is None
    brought_up(tmp_path, **PORTS)
    assert settings_of_home(named).api_port == 8123


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("SLIPWAY_PORT_API", "8125", "8123"),
        ("SLIPWAY_PORT_PRODUCTION", "8126", "8001"),
        ("SLIPWAY_PREFIX", "team", "slipway"),
        ("TARGET", "docker", "local"),
    ],
)
def test_a_verb_that_means_another_installation_is_refused(tmp_path: Path, name: str, value: str, kept: str) -> None:
    named = brought_up(tmp_path, **PORTS)
    with pytest.raises(UsageError, match=f"with {name}={kept}, not {name}={value}") as refused:
        settings_of_home({**named, name: value})
    assert refused.value.exit_code == 2
    assert name in refused.value.next and "SLIPWAY_HOME" in refused.value.next


def test_up_may_give_other_ports_and_keeps_the_rest(tmp_path: Path) -> None:
    named = brought_up(tmp_path, **PORTS)
    before = installation_id(settings_of_home(named))
    brought_up(tmp_path, SLIPWAY_PORT_API="8200")
    settings = settings_of_home(named)
    assert (settings.api_port, settings.staging_port) == (8200, 8124)
    assert installation_id(settings) == before


@pytest.mark.parametrize(("name", "value"), [("TARGET", "docker"), ("SLIPWAY_PREFIX", "team")])
def test_not_even_up_makes_a_home_another_installation(tmp_path: Path, name: str, value: str) -> None:
    named = brought_up(tmp_path)
    with pytest.raises(UsageError, match=f"not {name}={value}"):
        settings_of_home({**named, name: value}, moving=True)


def test_ports_that_did_not_come_up_are_not_remembered(tmp_path: Path) -> None:
    named = brought_up(tmp_path, **PORTS)
    begin_record(settings_of_home({**named, "SLIPWAY_PORT_API": "8200"}, moving=True))
    assert settings_of_home(named).api_port == 8123


def test_a_home_that_was_moved_is_the_same_installation(tmp_path: Path) -> None:
    named = brought_up(tmp_path / "home", **PORTS)
    before = installation_id(settings_of_home(named))
    (tmp_path / "home").rename(tmp_path / "moved")
    settings = settings_of_home({"SLIPWAY_HOME": str(tmp_path / "moved")})
    assert (installation_id(settings), settings.api_port, settings.home) == (before, 8123, tmp_path / "moved")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """The project of another model."""
    project = tmp_path / "others"
    project.mkdir()
    (project / "model.yaml").write_text("name: other-model\n")
    return project


def test_a_home_is_refused_to_the_project_of_another_model(tmp_path: Path, others: Path) -> None:
    named = brought_up(tmp_path / "home")
    refuse_other_model(settings_of_home(named))
    with pytest.raises(OtherModel, match=r"of model 'churn-model', and .* names 'other-model'") as refused:
        refuse_other_model(settings_of_home({**named, "SLIPWAY_PROJECT": str(others)}))
    assert refused.value.exit_code == 2
    assert '"name: churn-model"' in refused.value.next and "SLIPWAY_HOME" in refused.value.next


def test_a_record_of_before_takes_the_model_that_comes_up_next(tmp_path: Path, others: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / FILE).write_text('{"id": "a", "settings": {"TARGET": "local"}}')
    theirs = settings_of_home({"SLIPWAY_HOME": str(home), "SLIPWAY_PROJECT": str(others)})
    refuse_other_model(theirs)
    begin_record(theirs)
    refuse_other_model(settings_of_home({"SLIPWAY_HOME": str(home)}))
    keep_record(theirs)
    with pytest.raises(OtherModel, match="'other-model'"):
        refuse_other_model(settings_of_home({"SLIPWAY_HOME": str(home)}))


def test_a_record_that_was_lost_is_written_with_the_id_that_is_known(tmp_path: Path) -> None:
    settings = settings_of_home({"SLIPWAY_HOME": str(tmp_path)})
    begin_record(settings, "known")
    begin_record(settings, "another")
    assert installation_id(settings) == "known"


def test_two_homes_are_two_installations(tmp_path: Path) -> None:
    ids = {installation_id(settings_of_home(brought_up(tmp_path / name))) for name in ("a", "b")}
    assert len(ids) == 2 and None not in ids


def test_a_binding_is_given_as_a_whole(tmp_path: Path) -> None:
    exposed = {"SLIPWAY_BIND": "0.0.0.0", "SLIPWAY_EXTERNAL_URL": "https://here.example.com", "SLIPWAY_TLS": "generate"}
    named = brought_up(tmp_path, TARGET="docker", **exposed)
    assert settings_of_home(named).binding.base_url == "https://here.example.com"
    own = {"SLIPWAY_TLS_CERT": "/c.pem", "SLIPWAY_TLS_KEY": "/k.pem"}
    renewed = {**exposed, **own, "SLIPWAY_TLS": ""}
    assert settings_of_home({**named, **renewed}).binding.certificate == Path("/c.pem")
    with pytest.raises(UsageError, match=r"not SLIPWAY_BIND=127\.0\.0\.1"):
        settings_of_home({**named, "SLIPWAY_BIND": "127.0.0.1"})


@pytest.mark.parametrize("text", ["", "[]", '{"id": 1, "settings": {}}', '{"id": "x", "settings": {}, "more": 1}'])
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match="can't be read") as refused:
        settings_of_home({"SLIPWAY_HOME": str(tmp_path)})
    assert "make up" in refused.value.next


def test_the_record_holds_no_secret_and_no_path_of_the_home(tmp_path: Path) -> None:
    brought_up(tmp_path, **PORTS)
    record = json.loads((tmp_path / FILE).read_text())
    assert str(tmp_path) not in json.dumps(record)
    assert InstallationRecord.read(tmp_path) == InstallationRecord(**record)
