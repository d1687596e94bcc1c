"""What a home remembers of its installation: which one it is, its model, its target, its names and its ports.

`up` writes it and every other verb goes by it, so that none talks to another installation by accident.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.disk import write_whole
from pipelines.domain.formats import refuse_newer
from pipelines.errors import OtherModel, UsageError
from pipelines.settings.models import KeptModel, model_name
from pipelines.settings.settings import Settings, home_of

FILE = "installation.json"
# The form of the record; one without any is of the first, which knew one model.
FORMAT = 2
# By it an API says which installation it is of, and a client which one it means.
HEADER = "X-Slipway-Installation"
_PUBLISHED = ("SLIPWAY_BIND", "SLIPWAY_EXTERNAL_URL")
_BINDING = (*_PUBLISHED, "SLIPWAY_TLS", "SLIPWAY_TLS_CA", "SLIPWAY_TLS_CERT", "SLIPWAY_TLS_KEY")


class _Form(BaseModel):
    format: int = 1


class InstallationRecord(BaseModel):
    """An installation: `id` is its own for ever, `settings` are the variables that name it, as `up` was given them.

    `model` is the default one that it came up with, None before it did for the first time; `models` are the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    settings: dict[str, str]
    model: str | None = None
    models: list[KeptModel] = []
    format: int = Field(FORMAT, ge=1)

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """Return the record of a home, None where no `up` of this Slipway was.

        Raises UsageError for that of a newer Slipway, or for what is none.
        """
        path = home / FILE
        try:
            content = path.read_bytes()
            refuse_newer(str(path), found=_Form.model_validate_json(content).format, known=FORMAT)
            return cls.model_validate_json(content)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise UsageError(
                f"{path} can't be read: {error}",
                next='remove it; "make up", with the SLIPWAY_ variables that named the installation, writes it anew',
            ) from error

    def write(self, home: Path) -> None:
        """Write the record at once or not at all."""
        write_whole(home / FILE, self.model_dump_json(indent=1))

    def joined(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` with what is remembered for all that it does not name; the binding is taken as a whole."""
        given = {name: value for name, value in environ.items() if value}
        own_binding = any(name in given for name in _BINDING)
        kept = {name: value for name, value in self.settings.items() if not (own_binding and name in _BINDING)}
        return {**environ, **kept, **given}


def settings_of_home(environ: Mapping[str, str], *, moving: bool = False) -> Settings:
    """Return the settings of the home's installation for a verb.

    What the environment names otherwise than the home remembers is refused with UsageError: all of it, or with
    `moving`, for the verb that gives an installation other ports, its target and prefix alone.
    """
    home = home_of(environ)
    record = InstallationRecord.read(home)
    if record is None:
        return Settings.from_environ(environ)
    settings = Settings.from_environ(record.joined(environ))
    told = settings.installation_environ()
    differing = [
        name for name, value in record.settings.items() if told.get(name, "") != value and _decides(name, moving=moving)
    ]
    if differing:
        given = ", ".join(f"{name}={told.get(name, '')}" for name in differing)
        kept = ", ".join(f"{name}={record.settings[name]}" for name in differing)
        stays = moving or any(_decides(name, moving=True) for name in differing)
        moves = "" if stays else ', or give this one these ports by "make up"'
        raise UsageError(
            f"{home} has the installation {record.id} with {kept}, not {given}",
            next=f"unset {', '.join(differing)}, or name another home by SLIPWAY_HOME{moves}",
        )
    return settings


def refuse_other_model(settings: Settings) -> None:
    """Raise OtherModel unless the project's model is that of the home's installation, where one is remembered."""
    record, asked = InstallationRecord.read(settings.home), model_name(settings.project)
    if record and record.model not in (None, asked):
        raise other_model(settings, kept=str(record.model), asked=asked)


def other_model(settings: Settings, *, kept: str, asked: str) -> OtherModel:
    """Return the refusal to do with a home's installation what was asked from the project of another model."""
    described = settings.project / "model.yaml"
    return OtherModel(
        f"{settings.home} has the installation of model {kept!r}, and {described} names {asked!r}",
        next=f'run it from the project whose model.yaml says "name: {kept}", or give {asked} a home and ports of its '
        "own (SLIPWAY_HOME, SLIPWAY_PORT_...)",
    )


def came_up(home: Path) -> bool:
    """Whether a home's installation came up once, as a whole: then it has made all of its files."""
    record = InstallationRecord.read(home)
    return record is not None and record.model is not None


def begin_record(settings: Settings, known_id: str | None = None) -> None:
    """Give a home that has no record its own one, so that the processes that are started next know who they are.

    `known_id` is that by which what was started from this home knows it already.
    """
    if InstallationRecord.read(settings.home) is None:
        id = known_id or uuid.uuid4().hex
        InstallationRecord(id=id, settings=settings.installation_environ()).write(settings.home)


def keep_record(settings: Settings) -> None:
    """Remember how the installation came up, and with which model."""
    record = InstallationRecord.read(settings.home)
    if record:
        came_up = {"settings": settings.installation_environ(), "model": model_name(settings.project)}
        kept = record.model_copy(update={**came_up, "format": FORMAT})
        if kept != record:
            kept.write(settings.home)


def kept_models(home: Path) -> list[KeptModel]:
    """Return the further models that a home remembers, those that were removed among them."""
    record = InstallationRecord.read(home)
    return record.models if record else []


def keep_model(settings: Settings, model: KeptModel) -> None:
    """Remember a further model, in place of what was remembered of it; raise UsageError where there is no record."""
    record = InstallationRecord.read(settings.home)
    if record is None:
        raise UsageError(f"there is no installation in {settings.home}", next='run "make up" first')
    others = [each for each in record.models if each.name != model.name]
    models = sorted([*others, model], key=lambda each: each.name)
    if models != record.models:
        record.model_copy(update={"models": models, "format": FORMAT}).write(settings.home)


def keep_models(settings: Settings) -> None:
    """Remember the further models of the installation that are not remembered yet."""
    known = {each.name for each in kept_models(settings.home)}
    for model in settings.models[1:]:
        if model.name not in known:
            keep_model(settings, KeptModel.of(model, settings.project))


def installation_id(settings: Settings) -> str | None:
    """Return which installation this is, None for one that an earlier Slipway brought up."""
    if settings.runtime:
        return settings.runtime.stack.installation_id
    record = InstallationRecord.read(settings.home)
    return record.id if record else None


def describe_installation() -> dict[str, Any]:
    """Return the JSON Schema of the record."""
    return InstallationRecord.model_json_schema()


def _decides(name: str, *, moving: bool) -> bool:
    """Whether another value means another installation; where a certificate lies does not."""
    if moving:
        return name in ("TARGET", "SLIPWAY_PREFIX")
    return name not in _BINDING or name in _PUBLISHED
