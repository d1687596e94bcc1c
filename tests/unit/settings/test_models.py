"""Which models an installation has: its own, those in models/, and those that were added from elsewhere."""

from pathlib import Path

import pytest

from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import UnknownModel, UsageError
from pipelines.settings.installation import (
    FILE,
    InstallationRecord,
    begin_record,
    keep_model,
    keep_record,
    settings_of_home,
)
from pipelines.settings.models import KeptModel, ModelProject
from pipelines.settings.settings import Settings


def described(folder: Path, name: str) -> Path:
    """Return a folder in which a model of a name is described."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(f"name: {name}\n")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose model is `first`."""
    return described(tmp_path / "project", "first")


def settings_of(project: Path) -> Settings:
    """Return the settings of a project's installation."""
    return settings_of_home({"SLIPWAY_PROJECT": str(project)})


def up(project: Path) -> Settings:
    """Return the settings of a project whose installation came up once."""
    settings = settings_of(project)
    settings.home.mkdir(exist_ok=True)
    begin_record(settings)
    keep_record(settings)
    return settings


def test_a_project_without_further_models_has_one(project: Path) -> None:
    assert settings_of(project).models == (ModelProject("first", project),)


def test_the_default_model_is_first_and_the_others_come_by_name(project: Path, tmp_path: Path) -> None:
    for name in ("b-model", "a-model"):
        described(project / "models" / name, name)
    (project / "models" / "notes").mkdir()
    settings = up(project)
    elsewhere = described(tmp_path / "elsewhere", "ab-model")
    keep_model(settings, KeptModel.of(ModelProject("ab-model", elsewhere), project))

    assert settings.models == (
        ModelProject("first", project),
        ModelProject("a-model", project / "models" / "a-model"),
        ModelProject("ab-model", elsewhere),
        ModelProject("b-model", project / "models" / "b-model"),
    )


def test_a_kept_model_of_the_project_is_no_second_one(project: Path) -> None:
    folder = described(project / "models" / "other", "other")
    settings = up(project)
    keep_model(settings, KeptModel.of(ModelProject("other", folder), project, ports={"staging": 8100}))
    assert settings.models == (ModelProject("first", project), ModelProject("other", folder))
    assert InstallationRecord.read(settings.home).models[0].folder == "models/other"  # type: ignore[union-attr]


def test_a_model_that_was_removed_is_not_taken_by_itself(project: Path) -> None:
    folder = described(project / "models" / "other", "other")
    settings = up(project)
    keep_model(settings, KeptModel.of(ModelProject("other", folder), project, removed=True))
    assert [model.name for model in settings.models] == ["first"]
    keep_model(settings, KeptModel.of(ModelProject("other", folder), project))
    assert [model.name for model in settings.models] == ["first", "other"]


def test_a_kept_model_whose_folder_is_away_is_still_one_of_the_installation(project: Path, tmp_path: Path) -> None:
    settings = up(project)
    keep_model(settings, KeptModel.of(ModelProject("other", tmp_path / "away"), project))
    assert settings.models[1] == ModelProject("other", tmp_path / "away")


@pytest.mark.parametrize(
    ("folder", "name", "told"),
    [
        ("other", "another", r"models/other/model.yaml names the model 'another'.* 'other'"),
        ("first", "first", r"project/model.yaml and .*models/first/model.yaml both name the model 'first'"),
        ("-x", "-x", r"the model of .*models/-x/model.yaml '-x' is not a name"),
    ],
)
def test_a_folder_that_contradicts_is_refused(project: Path, folder: str, name: str, told: str) -> None:
    described(project / "models" / folder, name)
    with pytest.raises(UsageError, match=told):
        _ = settings_of(project).models


def test_one_name_for_two_projects_is_refused_with_both_files(project: Path, tmp_path: Path) -> None:
    described(project / "models" / "other", "other")
    settings = up(project)
    keep_model(settings, KeptModel.of(ModelProject("other", described(tmp_path / "elsewhere", "other")), project))
    with pytest.raises(UsageError, match=r"elsewhere/model.yaml and .*models/other/model.yaml both name"):
        _ = settings.models


def test_a_kept_folder_that_describes_another_model_by_now_is_refused(project: Path, tmp_path: Path) -> None:
    elsewhere = described(tmp_path / "elsewhere", "other")
    settings = up(project)
    keep_model(settings, KeptModel.of(ModelProject("other", elsewhere), project))
    described(elsewhere, "renamed")
    with pytest.raises(UsageError, match=r"elsewhere/model.yaml names the model 'renamed'.* as 'other'"):
        _ = settings.models


def test_a_model_is_found_by_its_name_and_the_default_one_without(project: Path) -> None:
    folder = described(project / "models" / "other", "other")
    settings = settings_of(project)
    assert settings.model("other") == ModelProject("other", folder)
    assert settings.model() == settings.model("first") == ModelProject("first", project)
    assert settings.endpoint(Environment.STAGING, "other") == Endpoint("other", Environment.STAGING)
    with pytest.raises(UnknownModel, match="no model 'third': it has first, other") as refused:
        settings.model("third")
    assert (refused.value.exit_code, refused.value.code) == (2, "unknown_model")


def test_a_further_model_has_the_ports_that_are_kept(project: Path) -> None:
    folder = described(project / "models" / "other", "other")
    settings = up(project)
    endpoint = settings.endpoint(Environment.PRODUCTION, "other")
    with pytest.raises(UnknownModel, match="other"):
        settings.port(Endpoint("third", Environment.STAGING))
    keep_model(settings, KeptModel.of(ModelProject("other", folder), project, ports={"production": 8100}))
    assert settings.port(endpoint) == 8100
    assert settings.port(settings.endpoint(Environment.PRODUCTION)) == 8001


def test_its_policy_is_its_own_or_that_of_the_installation(project: Path) -> None:
    folder = described(project / "models" / "other", "other")
    model = ModelProject("other", folder)
    assert model.policy_file(project) == project / "policy.yaml"
    (folder / "policy.yaml").write_text("schema_version: 2\n")
    assert model.policy_file(project) == folder / "policy.yaml"


def test_a_record_of_the_form_before_is_read_and_written_in_this_one(project: Path) -> None:
    settings = settings_of(project)
    settings.home.mkdir()
    (settings.home / FILE).write_text('{"id": "a", "settings": {"TARGET": "local"}, "model": "first", "format": 1}')
    assert [model.name for model in settings.models] == ["first"]
    folder = described(project / "models" / "other", "other")
    keep_model(settings, KeptModel.of(ModelProject("other", folder), project))
    record = InstallationRecord.read(settings.home)
    assert record and (record.id, record.model, record.format) == ("a", "first", 2)


def test_nothing_is_kept_before_an_installation_is_there(project: Path) -> None:
    with pytest.raises(UsageError, match="no installation"):
        keep_model(settings_of(project), KeptModel.of(ModelProject("other", project), project))
