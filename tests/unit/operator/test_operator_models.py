"""What adding and listing models refuses and shows, without a process of an installation."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UnknownModel, UsageError
from pipelines.operator.data import move_data
from pipelines.operator.models import add_model, remove_model, take_up_all
from pipelines.operator.tables import models_table, status_table
from pipelines.settings.installation import begin_record, keep_record, kept_models
from pipelines.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a project whose installation came up once."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "model.yaml").write_text("name: first\n")
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_PROJECT": str(project)})
    settings.home.mkdir(mode=0o700)
    begin_record(settings)
    keep_record(settings)
    return settings


def add(settings: Settings, given: str) -> None:
    add_model(settings, {}, given, "token", lambda line: None)


def test_nothing_is_added_where_nothing_was_brought_up(settings: Settings) -> None:
    (settings.home / "installation.json").unlink()
    for verb in (lambda: add(settings, "x"), lambda: remove_model(settings, {}, "x", "token", print)):
        with pytest.raises(UsageError, match="no installation"):
            verb()


@pytest.mark.parametrize("given", ["nowhere", "../project/nowhere", "model.yaml"])
def test_what_is_neither_a_name_nor_a_folder_is_refused(settings: Settings, given: str) -> None:
    with pytest.raises(UsageError, match="neither a folder") as refused:
        add(settings, given)
    assert "model init" in refused.value.next


def test_without_a_name_there_has_to_be_a_folder(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no folder of a model"):
        add(settings, "")


@pytest.mark.parametrize("name", ["first", "a b"])
def test_a_name_that_is_taken_or_none_is_refused_and_nothing_is_kept(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    (tmp_path / "model.yaml").write_text(f"name: {name}\n")
    with pytest.raises(UsageError, match=r"both name the model 'first'|is not a name"):
        add(settings, str(tmp_path))
    assert kept_models(settings.home) == []


def test_the_default_model_and_one_that_is_not_there_can_not_be_removed(settings: Settings) -> None:
    with pytest.raises(UsageError, match="first is the default model"):
        remove_model(settings, {}, "first", "token", print)
    with pytest.raises(UnknownModel, match="it has first"):
        remove_model(settings, {}, "other", "token", print)


def status_of(model: str, **more: Any) -> dict[str, Any]:
    policy = {"digest": "sha256:0", "profile": "demo"}
    return {"model": model, "serving": {}, "observed": {}, "unfinished": [], "policy": policy, **more}


def test_one_model_is_shown_as_before_and_several_by_their_names() -> None:
    alone = status_table([status_of("first")])
    assert "first" not in alone
    stalled = {"stalled": ["e-1 does not go on"]}
    both = status_table([status_of("first", **stalled), status_of("other", **stalled)])
    assert both.startswith("first\n") and "\nother\n" in both
    assert both.count("e-1 does not go on") == 1


def test_the_table_of_models_says_what_serves_where() -> None:
    row = {"name": "first", "default": True, "state": "served", "serving": {"staging": "3"}, "project": "/x"}
    table = models_table([{**row, "urls": {"staging": "http://127.0.0.1:8000"}}])
    for told in ("first (default)", "served", "v3", "/x", "http://127.0.0.1:8000"):
        assert told in table


def with_model(settings: Settings, name: str, at: Path | None = None) -> Path:
    """Make a project of a further model, in models/ if no place is named."""
    folder = at or settings.project / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(f"name: {name}\n")
    return folder


@pytest.mark.parametrize("state", ["removing", "archived"])
def test_an_up_revives_no_model_whose_removal_was_cut_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    for name in ("gone", "new", "other"):
        with_model(settings, name)
    taken: list[tuple[str, str]] = []

    class Api:
        def __init__(self, settings: Settings, token: str, *, model: str = "") -> None:
            self.model = model

        def get(self, path: str) -> dict[str, Any]:
            states = {"first": "served", "gone": state, "other": "served"}
            models = [{"name": name, "state": each} for name, each in states.items()]
            return {"models": models} if path == "/models" else {"policy": {}}

        def post(self, path: str, body: dict[str, Any]) -> None:
            taken.append((path, self.model))

    monkeypatch.setattr("pipelines.operator.models.ApiClient", Api)
    told: list[str] = []
    take_up_all(settings, "token", told.append)
    assert taken == [("/models", "new"), ("/models", "other")]
    (line,) = told
    assert "slipway model remove gone" in line


def test_a_removal_without_a_name_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no model is named"):
        remove_model(settings, {}, "", "token", print)


def test_a_link_in_models_is_one_project_and_not_two(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = with_model(settings, "linked", tmp_path / "elsewhere")
    (settings.project / "models").mkdir()
    (settings.project / "models" / "linked").symlink_to(elsewhere)

    class Installation:
        def add_model(self, model: str, report_progress: object) -> None:
            pass

    monkeypatch.setattr("pipelines.wiring.targets.open_installation", lambda *given: Installation())
    monkeypatch.setattr("pipelines.operator.models.take_up", lambda *given: None)
    add(settings, "linked")
    add(settings, str(settings.project / "models" / "linked"))
    assert [each.folder for each in kept_models(settings.home)] == ["models/linked"]
    assert [model.name for model in settings.models] == ["first", "linked"]


def test_the_data_of_the_model_that_is_named_is_moved(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = with_model(settings, "other")

    class Remote:
        def push(self, project: Path, environ: object) -> str:
            return f"pushed {project}"

        def pull(self, project: Path, environ: object) -> str:
            return f"pulled {project}"

    class Wiring:
        def open_data_remote(self, *given: object) -> Remote:
            return Remote()

    monkeypatch.setattr("pipelines.wiring.targets.wiring_of", lambda target: Wiring())
    assert move_data(settings, {}, into_store=True, model="other") == f"pushed {folder}"
    assert move_data(settings, {}, into_store=False) == f"pulled {settings.project}"
