"""Reads what an operator chooses of the shape of an installation, by the names of the variables of infra/.

A name that is not known is refused here: Terraform would drop it without a word. Values are for Terraform to judge.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

RETENTION_DAYS = 365
_MOST_DAYS = 36_500
_REPLICA = frozenset({"cpus", "memory_mb", "replicas"})
_LIMIT = frozenset({"cpus", "memory_mb"})
_ENVIRONMENTS = frozenset({"production", "staging"})
_SERVICES = frozenset({"api", "database", "edge", "executor", "image_registry", "model_registry", "object_store"})
_RETENTION = "retention_days"
_BY_HAND = frozenset({"image_registry_external", "object_store_external"})


@dataclass(frozen=True)
class Choices:
    """Further variables of infra/, and the days that audit heads can't be removed."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    retention_days: int = RETENTION_DAYS


def read_choices(named: Path | None, usual: Path) -> Choices:
    """Read the file `named`, or the `usual` one where none is named and it is there; raise UsageError for nonsense."""
    path = named or usual
    if named is None and not path.exists():
        return Choices()
    try:
        chosen = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as JSON: {error}", next="mend it, or unset SLIPWAY_INFRA") from error
    _check_names(path, chosen, "", {"environments", "limits", _RETENTION})
    for name, known, inner in (("environments", _ENVIRONMENTS, _REPLICA), ("limits", _SERVICES, _LIMIT)):
        parts = chosen.get(name, {})
        _check_names(path, parts, f"{name}.", known)
        for part, values in parts.items():
            _check_names(path, values, f"{name}.{part}.", inner)
    days = chosen.pop(_RETENTION, RETENTION_DAYS)
    if type(days) is not int or not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"{path}: {_RETENTION}={days!r}", next=f"give a whole number from 1 to {_MOST_DAYS}")
    return Choices(chosen, days)


def _check_names(path: Path, chosen: object, place: str, known: Set[str]) -> None:
    if not isinstance(chosen, dict):
        raise UsageError(f"{path}: {place.rstrip('.') or 'it'} is not an object", next='write {"name": value, ...}')
    strange = sorted(set(chosen) - known)
    if strange and strange[0] in _BY_HAND:
        raise UsageError(
            f"{path}: {strange[0]} is for infra/ by itself; Slipway makes and fills its own",
            next="leave it out; see infra/README.md",
        )
    if strange:
        raise UsageError(
            f"{path}: {place}{strange[0][:40]} can't be chosen", next=f"one of: {', '.join(sorted(known))}"
        )
