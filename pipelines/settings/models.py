"""Which models an installation has, and where the project of each is: the one place that knows.

The model of the project's own model.yaml is the default one. Further models are the folders of `models/` in the
project, and those that were added from elsewhere, which the installation's record keeps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.domain.names import checked_name
from pipelines.domain.release import Environment
from pipelines.errors import UnknownModel, UsageError

FOLDER = "models"
DESCRIPTION = "model.yaml"


@dataclass(frozen=True)
class ModelProject:
    """A model, and the folder with its model.yaml, its data and its dvc.yaml."""

    name: str
    folder: Path

    @property
    def description(self) -> Path:
        """The file that describes the model."""
        return self.folder / DESCRIPTION

    def policy_file(self, project: Path) -> Path:
        """Return the model's own policy file, or that of the installation's `project`."""
        own = self.folder / "policy.yaml"
        return own if own.exists() else project / "policy.yaml"


class KeptModel(BaseModel):
    """What a home remembers of a model beside the default one.

    `folder` is relative to the project where it is inside of it. `ports` are those of its live slots, where each model
    has its own. One that was `removed` is not taken again before somebody adds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    folder: str
    ports: dict[str, int] = {}
    removed: bool = False

    @classmethod
    def of(cls, model: ModelProject, project: Path, **more: Any) -> "KeptModel":
        """Return what is remembered of a model in the installation of a project."""
        inside = model.folder.is_relative_to(project)
        folder = model.folder.relative_to(project) if inside else model.folder
        return cls(name=model.name, folder=str(folder), **more)

    def port(self, environment: Environment) -> int | None:
        """Return the port of its live slot, None where it has none of its own."""
        return self.ports.get(environment)


def model_name(project: Path) -> str:
    """Return the model that model.yaml names, without reading more of it; raise UsageError when it names none."""
    try:
        lines = (project / DESCRIPTION).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"model.yaml can't be read: {error}", next="set SLIPWAY_PROJECT to a project") from error
    for line in lines:
        key, _, value = line.partition(":")
        name = value.split("#")[0].strip().strip("\"'")
        if key == "name" and name:
            return name
    raise UsageError(f"{project / DESCRIPTION} names no model", next='begin it with "name: my-model"')


def find_models(project: Path, kept: Iterable[KeptModel] = ()) -> tuple[ModelProject, ...]:
    """Return the models of an installation: the default one first, the further ones by name.

    Raises UsageError, naming both files, for a folder of `models/` that describes a model of another name, for a model
    that is described twice, and for a kept one whose folder describes another by now.
    """
    default = ModelProject(model_name(project), project)
    remembered = tuple(kept)
    removed = {each.name for each in remembered if each.removed}
    named = [_project_of(each, project) for each in remembered if not each.removed]
    inside = [_own_project(folder) for folder in own_folders(project) if folder.name not in removed]
    found = {default.name: default}
    for model in sorted({*named, *inside}, key=lambda each: (each.name, str(each.folder))):
        if model.name in found:
            raise twice(found[model.name], model)
        found[model.name] = model
    return tuple(found.values())


def own_folders(project: Path) -> list[Path]:
    """Return the folders of `models/` that describe a model, whatever they call it."""
    return sorted(path.parent for path in project.glob(f"{FOLDER}/*/{DESCRIPTION}"))


def find_model(models: Iterable[ModelProject], name: str) -> ModelProject:
    """Return a model by its name, the default one for an empty name; raise UnknownModel."""
    known = tuple(models)
    for model in known:
        if not name or model.name == name:
            return model
    raise unknown_model(name, [model.name for model in known])


def unknown_model(name: str, known: Iterable[str]) -> UnknownModel:
    """Return the refusal of a model that the installation does not have."""
    return UnknownModel(
        f"this installation has no model {name[:40]!r}: it has {', '.join(known)}",
        next="name one of these (MODEL=name), or add it: slipway model add",
    )


def twice(first: ModelProject, second: ModelProject) -> UsageError:
    """Return the refusal of a name that two projects have."""
    return UsageError(
        f"{first.description} and {second.description} both name the model {first.name!r}",
        next="give one of them another name",
    )


def _own_project(folder: Path) -> ModelProject:
    """Return the model of a folder of `models/`, which has its name; raise UsageError."""
    name = checked_name(model_name(folder), what=f"the model of {folder / DESCRIPTION}")
    if name != folder.name:
        raise UsageError(
            f"{folder / DESCRIPTION} names the model {name!r}, and its folder is {folder.name!r}",
            next=f'rename the folder, or write "name: {folder.name}"',
        )
    return ModelProject(name, folder)


def _project_of(kept: KeptModel, project: Path) -> ModelProject:
    """Return a kept model, also where its folder is away: what it serves goes on. Raises UsageError for another's."""
    model = ModelProject(kept.name, project / kept.folder)
    if model.description.exists() and (name := model_name(model.folder)) != kept.name:
        raise UsageError(
            f"{model.description} names the model {name!r}, and this installation has it as {kept.name!r}",
            next=f'write "name: {kept.name}" into it, or remove that model: slipway model remove {kept.name}',
        )
    return model
