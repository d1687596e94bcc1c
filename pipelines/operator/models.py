"""Adds a model to a running installation, removes one, and says which there are."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.api.client import ApiClient
from pipelines.domain.names import checked_name
from pipelines.domain.release import Environment
from pipelines.errors import UsageError
from pipelines.governance.models import refuse_default
from pipelines.operator.policy_file import read_policy_file
from pipelines.settings.installation import came_up, keep_model, kept_models
from pipelines.settings.models import DESCRIPTION, FOLDER, KeptModel, ModelProject, find_models, model_name
from pipelines.settings.settings import Settings

ProgressReporter = Callable[[str], None]


def add_model(
    settings: Settings, environ: Mapping[str, str], given: str, token: str, report_progress: ProgressReporter
) -> list[ModelProject]:
    """Add a model to a running installation, by its name or its folder; without any, all that models/ has.

    Does for it what `up` does, while the others serve on; one that was removed is taken up again. Raises UsageError for
    a folder without a model, a name that is taken, and where nothing runs.
    """
    from pipelines.wiring.targets import hold_home, open_installation

    _refuse_none_running(settings)
    with hold_home(settings, "model add"):
        named = [_described(settings, given)] if given else list(settings.models[1:])
        if not named:
            raise UsageError(
                f"there is no folder of a model in {settings.project / FOLDER}",
                next="slipway model init FILE --target COLUMN --project models/NAME, or name a folder",
            )
        for model in named:
            kept = {each.name: each for each in kept_models(settings.home)}
            mine = KeptModel.of(model, settings.project, ports=kept[model.name].ports if model.name in kept else {})
            find_models(settings.project, [*(each for name, each in kept.items() if name != model.name), mine])
            keep_model(settings, mine)
            open_installation(settings, environ).add_model(model.name, report_progress)
            take_up(settings, model, token, report_progress)
        return named


def take_up(settings: Settings, model: ModelProject, token: str, report_progress: ProgressReporter) -> None:
    """Have a running installation look after a model, and put the policy of its project in force at first."""
    client = ApiClient(settings, token, model=model.name)
    is_default = model == settings.model()
    if not is_default:
        client.post("/models", {})
    if client.get("/policy")["policy"] is None:
        file = model.policy_file(settings.project)
        client.ask("/policy", {"policy": read_policy_file(file)}, report_progress)
        report_progress(f"{file.name} is in force" + ("" if is_default else f" for {model.name}"))


def take_up_all(settings: Settings, token: str, report_progress: ProgressReporter) -> None:
    """Do so for every model of the installation but those whose removal was begun: they are not revived by this."""
    shown = ApiClient(settings, token).get("/models")["models"]
    leaving = {each["name"] for each in shown if each["state"] != "served"}
    for model in settings.models:
        if model.name not in leaving:
            take_up(settings, model, token, report_progress)
            continue
        report_progress(
            f'the removal of {model.name} was begun: "slipway model remove {model.name}" ends it, '
            f'"slipway model add {model.name}" takes the model up again'
        )


def remove_model(
    settings: Settings, environ: Mapping[str, str], name: str, token: str, report_progress: ProgressReporter
) -> None:
    """Have nothing of a model serve any more; versions, history and audit stay, and adding it again revives it.

    Raises UsageError for the default model, UnknownModel, and Refused while work on the model is under way.
    """
    from pipelines.wiring.targets import hold_home, open_installation

    _refuse_none_running(settings)
    if not name:
        raise UsageError("no model is named to remove", next='"make model-remove MODEL=name"; "make models" lists them')
    refuse_default(name, settings.model().name)
    with hold_home(settings, "model remove"):
        kept = next((each for each in kept_models(settings.home) if each.name == name), None)
        mine = kept or KeptModel.of(settings.model(name), settings.project)
        client, path = ApiClient(settings, token, model=name), f"/models/{name}"
        client.post(f"{path}/removal", {})
        client.wait(path, report_progress, until=lambda shown: shown["state"] != "removing")
        keep_model(settings, mine.model_copy(update={"removed": True}))
        open_installation(settings, environ).remove_model(name, report_progress)


def list_models(settings: Settings, client: ApiClient) -> list[dict[str, Any]]:
    """Return each model as the API shows it, with its `project` and the `urls` of its environments."""
    folders = {model.name: model.folder for model in settings.models}
    folders = {**{each.name: settings.project / each.folder for each in kept_models(settings.home)}, **folders}
    rows = []
    for shown in client.get("/models")["models"]:
        name, folder = shown["name"], folders.get(shown["name"])
        urls = _urls(settings, name) if shown["state"] == "served" and folder else {}
        rows.append({**shown, "project": str(folder) if folder else None, "urls": urls})
    return rows


def _urls(settings: Settings, model: str) -> dict[str, str]:
    return {str(each): settings.address(settings.endpoint(each, model)) for each in Environment}


def _refuse_none_running(settings: Settings) -> None:
    if not came_up(settings.home):
        raise UsageError(f"there is no installation in {settings.home}", next='run "make up" first')


def _described(settings: Settings, given: str) -> ModelProject:
    """Return the project of a model that is named, or whose folder is; raise UsageError."""
    kept = {each.name: each for each in kept_models(settings.home)}
    folder = settings.project / FOLDER / given
    if given in kept and (settings.project / kept[given].folder / DESCRIPTION).exists():
        folder = settings.project / kept[given].folder
    elif not (folder / DESCRIPTION).exists():
        folder = Path(given)
    if not (folder / DESCRIPTION).exists():
        raise UsageError(
            f"{given[:80]!r} is neither a folder with a model.yaml nor one of {settings.project / FOLDER}",
            next="slipway model init FILE --target COLUMN --project FOLDER writes one",
        )
    # A link in models/ stays what it is: the same project by two paths would be two.
    return ModelProject(checked_name(model_name(folder), what="model name"), Path(os.path.abspath(folder)))
