"""Reads what an operator chooses of an installation: of the variables of infra/, and what others run.

A name that is not known is refused here: Terraform would drop it without a word. Values are for Terraform to judge, but
for those that are used before it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.storage.external_store import ExternalStore
from pipelines.adapters.storage.object_store import REGION, Buckets
from pipelines.errors import UsageError

RETENTION_DAYS = 365
_MOST_DAYS = 36_500
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_INWARD = re.compile(r"localhost|127\..*|0\.0\.0\.0|::1")
_PEM = "the path of a file in PEM"


def _formed(form: str, told: str) -> BeforeValidator:
    """Return what takes text of a form alone, and says `told` of it."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(form, value):
            raise PydanticCustomError("form", "{told}", {"told": told})
        return value

    return BeforeValidator(check)


# As infra/variables.tf has them.
_Url = Annotated[
    str, _formed(rf"https?://{_HOST}(:[0-9]{{1,5}})?", "http(s)://host[:port], without a path or credentials")
]
_Address = Annotated[
    str, _formed(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)*", "host[:port][/path], without a scheme")
]
_Bucket = Annotated[
    str, _formed("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits, dots and hyphens")
]
_Word = Annotated[str, _formed("[a-z0-9-]+", "a name such as us-east-1")]
_PemPath = Annotated[str, _formed(".+", _PEM)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limit(_Part):
    """The most that a service may use."""

    cpus: Any = None
    memory_mb: Any = None


class Replicas(Limit):
    """How many replicas an environment has, and the most that each may use."""

    replicas: Any = None


class Environments(_Part):
    """The environments, by their names."""

    production: Replicas = Replicas()
    staging: Replicas = Replicas()


class Limits(_Part):
    """The services that are no slots, by their names."""

    api: Limit = Limit()
    database: Limit = Limit()
    edge: Limit = Limit()
    executor: Limit = Limit()
    image_registry: Limit = Limit()
    model_registry: Limit = Limit()
    object_store: Limit = Limit()


class BucketChoice(_Part):
    """The names of the buckets, by what they hold."""

    artifacts: _Bucket = Buckets.artifacts
    dvc: _Bucket = Buckets.dvc
    heads: _Bucket = Buckets.heads


class StoreChoice(_Part):
    """An object store that others run; `url` is its address for this machine where that is another."""

    authority: _PemPath = ""
    buckets: BucketChoice = BucketChoice()
    endpoint: _Url
    region: _Word = REGION
    url: _Url = ""


class RegistryChoice(_Part):
    """An image registry that others run."""

    address: _Address
    authority: _PemPath = ""


class InfraFile(_Part):
    """The file as a whole; what is left out is Terraform's default.

    `models` are further models that are to be of another size than `environments` says.
    """

    encrypted_networks: bool | None = None
    environments: Environments = Environments()
    image_registry: RegistryChoice | None = None
    limits: Limits = Limits()
    models: dict[str, Environments] = {}
    object_store: StoreChoice | None = None
    retention_days: Annotated[int, Field(ge=1, le=_MOST_DAYS)] = RETENTION_DAYS


@dataclass(frozen=True)
class Choices:
    """Further variables of infra/, the days that checkpoints can't be removed, what others run, and encryption.

    `models` are the sizes of further models, by their names.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    retention_days: int = RETENTION_DAYS
    object_store: ExternalStore | None = None
    image_registry: ExternalRegistry | None = None
    encrypted_networks: bool | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_choices(named: Path | None, usual: Path) -> Choices:
    """Read the file `named`, or the `usual` one where none is named and it is there; raise UsageError for nonsense."""
    path = named or usual
    if named is None and not path.exists():
        return Choices()
    try:
        chosen = InfraFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    except ValidationError as error:
        raise _refusal(path, error.errors()[0]) from error
    variables = chosen.model_dump(include={"environments", "limits"}, exclude_unset=True)
    store = _store(path, chosen.object_store) if chosen.object_store else None
    registry = _registry(path, chosen.image_registry) if chosen.image_registry else None
    models = {name: sizes.model_dump(exclude_unset=True) for name, sizes in chosen.models.items()}
    return Choices(variables, chosen.retention_days, store, registry, chosen.encrypted_networks, models)


def describe_infra_file() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    return InfraFile.model_json_schema()


def _store(path: Path, chosen: StoreChoice) -> ExternalStore:
    _check_reached(path, "object_store.endpoint", urlsplit(chosen.endpoint).hostname)
    return ExternalStore(
        endpoint=chosen.endpoint,
        url=chosen.url or chosen.endpoint,
        region=chosen.region,
        buckets=Buckets(**chosen.buckets.model_dump()),
        authority=_authority(path, "object_store", chosen.authority),
    )


def _registry(path: Path, chosen: RegistryChoice) -> ExternalRegistry:
    found = ExternalRegistry(chosen.address, _authority(path, "image_registry", chosen.authority))
    _check_reached(path, "image_registry.address", found.host.partition(":")[0])
    return found


def _authority(path: Path, place: str, named: str) -> Path | None:
    if not named:
        return None
    file = (path.parent / named).resolve()
    if not file.is_file():
        raise UsageError(f"{path}: {place}.authority {file} is not there", next=f"give {_PEM}")
    return file


def _check_reached(path: Path, place: str, host: str | None) -> None:
    """Raise UsageError for a host that is another one in each container: the container itself."""
    if _INWARD.fullmatch(host or "localhost"):
        raise UsageError(
            f"{path}: {place} names {host}, which in a container is the container itself",
            next="give a name or an address by which containers and this machine reach it",
        )


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} can't be read as JSON: {why}", next="fix it, or unset SLIPWAY_INFRA")


def _refusal(path: Path, error: ErrorDetails) -> UsageError:
    """Return the refusal of the first thing that is wrong, by its name and with what may stand there."""
    words = [str(word) for word in error["loc"]]
    place, kind, given = ".".join(words), error["type"], error["input"]
    if kind == "json_invalid":
        return _unreadable(path, error["msg"])
    if kind == "extra_forbidden":
        known = ", ".join(sorted(_part_at(words[:-1]).model_fields))
        place = ".".join([*words[:-1], words[-1][:40]])
        return UsageError(f"{path}: {place} can't be chosen", next=f"one of: {known}")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return UsageError(f"{path}: {place or 'it'} is not an object", next='write {"name": value, ...}')
    if words == ["retention_days"]:
        return UsageError(f"{path}: {place}={given!r}", next=f"give a whole number from 1 to {_MOST_DAYS}")
    if kind == "missing":
        told = _form_of(_part_at(words[:-1]), words[-1])
        return UsageError(f"{path}: {place} is missing", next=f"give {told}")
    return UsageError(f"{path}: {place} can't be {str(given)[:80]!r}", next=f"give {error['msg']}")


def _part_at(words: list[str]) -> type[_Part]:
    """Return the part of the file at a place."""
    part: Any = InfraFile
    for word in words:
        if get_origin(part) is dict:
            part = get_args(part)[1]
            continue
        part = part.model_fields[word].annotation
        if get_origin(part) is not dict:
            part = (*get_args(part), part)[0]
    return part  # type: ignore[no-any-return]


def _form_of(part: type[_Part], name: str) -> str:
    """Return the words for what may stand at a name, by giving it what never may."""
    try:
        part.model_validate({name: None})
    except ValidationError as error:
        return next(each["msg"] for each in error.errors() if each["loc"] == (name,))
    return "a value"
