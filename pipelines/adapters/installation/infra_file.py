"""Reads what an operator chooses of an installation: of the variables of infra/, and what others run.

A name that is not known is refused here: Terraform would drop it without a word. Values are for Terraform to judge, but
for those that are used before it.
"""

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.storage.external_store import ExternalStore
from pipelines.adapters.storage.object_store import REGION, Buckets
from pipelines.errors import UsageError

RETENTION_DAYS = 365
_MOST_DAYS = 36_500
_REPLICA = frozenset({"cpus", "memory_mb", "replicas"})
_LIMIT = frozenset({"cpus", "memory_mb"})
_ENVIRONMENTS = frozenset({"production", "staging"})
_SERVICES = frozenset({"api", "database", "edge", "executor", "image_registry", "model_registry", "object_store"})
_RETENTION = "retention_days"
_STORE = frozenset({"authority", "buckets", "endpoint", "region", "url"})
_BUCKETS = frozenset(each.name for each in fields(Buckets))
_REGISTRY = frozenset({"address", "authority"})
# Value -> its form, as infra/variables.tf has it.
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_URL = (rf"https?://{_HOST}(:[0-9]{{1,5}})?", "http(s)://host[:port], without a path or credentials")
_ADDRESS = (r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)*", "host[:port][/path], without a scheme")
_BUCKET = ("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits, dots and hyphens")
_WORD = (r"[a-z0-9-]+", "a name such as us-east-1")
_PATH = (r".+", "the path of a file in PEM")
_INWARD = re.compile(r"localhost|127\..*|0\.0\.0\.0|::1")


@dataclass(frozen=True)
class Choices:
    """Further variables of infra/, the days that checkpoints can't be removed, and what others run."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    retention_days: int = RETENTION_DAYS
    object_store: ExternalStore | None = None
    image_registry: ExternalRegistry | None = None


def read_choices(named: Path | None, usual: Path) -> Choices:
    """Read the file `named`, or the `usual` one where none is named and it is there; raise UsageError for nonsense."""
    path = named or usual
    if named is None and not path.exists():
        return Choices()
    try:
        chosen = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as JSON: {error}", next="mend it, or unset SLIPWAY_INFRA") from error
    _check_names(path, chosen, "", {"environments", "image_registry", "limits", "object_store", _RETENTION})
    for name, known, inner in (("environments", _ENVIRONMENTS, _REPLICA), ("limits", _SERVICES, _LIMIT)):
        parts = chosen.get(name, {})
        _check_names(path, parts, f"{name}.", known)
        for part, values in parts.items():
            _check_names(path, values, f"{name}.{part}.", inner)
    days = chosen.pop(_RETENTION, RETENTION_DAYS)
    if type(days) is not int or not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"{path}: {_RETENTION}={days!r}", next=f"give a whole number from 1 to {_MOST_DAYS}")
    store, registry = (
        _store(path, chosen.pop("object_store", None)),
        _registry(path, chosen.pop("image_registry", None)),
    )
    return Choices(chosen, days, store, registry)


def _store(path: Path, chosen: Any) -> ExternalStore | None:
    if chosen is None:
        return None
    part = _Part(path, "object_store", chosen, _STORE)
    buckets = _Part(path, "object_store.buckets", chosen.get("buckets", {}), _BUCKETS)
    endpoint = part.text("endpoint", _URL)
    part.check_reached("endpoint", urlsplit(endpoint).hostname)
    return ExternalStore(
        endpoint=endpoint,
        url=part.text("url", _URL, endpoint),
        region=part.text("region", _WORD, REGION),
        buckets=Buckets(**{each.name: buckets.text(each.name, _BUCKET, each.default) for each in fields(Buckets)}),
        authority=part.authority(),
    )


def _registry(path: Path, chosen: Any) -> ExternalRegistry | None:
    if chosen is None:
        return None
    part = _Part(path, "image_registry", chosen, _REGISTRY)
    found = ExternalRegistry(part.text("address", _ADDRESS), part.authority())
    part.check_reached("address", found.host.partition(":")[0])
    return found


class _Part:
    """An object in the file, with values in the form that they must have."""

    def __init__(self, path: Path, place: str, values: Any, known: Set[str]) -> None:
        _check_names(path, values, f"{place}.", known)
        self._path, self._place, self._values = path, place, values

    def text(self, name: str, form: tuple[str, str], default: Any = None) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str) or not re.fullmatch(form[0], value):
            shown = "is missing" if value is None else f"can't be {str(value)[:80]!r}"
            raise UsageError(f"{self._path}: {self._place}.{name} {shown}", next=f"give {form[1]}")
        return value

    def authority(self) -> Path | None:
        if "authority" not in self._values:
            return None
        file = (self._path.parent / self.text("authority", _PATH)).resolve()
        if not file.is_file():
            raise UsageError(f"{self._path}: {self._place}.authority {file} is not there", next=f"give {_PATH[1]}")
        return file

    def check_reached(self, name: str, host: str | None) -> None:
        """Raise UsageError for a host that is another one in each container: the container itself."""
        if _INWARD.fullmatch(host or "localhost"):
            raise UsageError(
                f"{self._path}: {self._place}.{name} names {host}, which in a container is the container itself",
                next="give a name or an address by which containers and this machine reach it",
            )


def _check_names(path: Path, chosen: object, place: str, known: Set[str]) -> None:
    if not isinstance(chosen, dict):
        raise UsageError(f"{path}: {place.rstrip('.') or 'it'} is not an object", next='write {"name": value, ...}')
    strange = sorted(set(chosen) - known)
    if strange:
        raise UsageError(
            f"{path}: {place}{strange[0][:40]} can't be chosen", next=f"one of: {', '.join(sorted(known))}"
        )
