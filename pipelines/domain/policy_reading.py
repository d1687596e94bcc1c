"""Make a section of the policy from parsed YAML or JSON, strictly.

An unknown key is refused rather than ignored, because a misspelt limit would be a gate switched off.
"""

import dataclasses
import sys
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args, get_origin

from pipelines.errors import PolicyInvalid

_LARGEST = sys.float_info.max


def build(kind: Any, value: object, path: str) -> Any:
    """Convert `value` to the annotated type `kind`, strictly; `path` names it in refusals."""
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, path)
    if isinstance(kind, types.UnionType):
        return build(get_args(kind)[0], value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise _invalid(path, value, "a list with at least one entry")
        return tuple(build(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise _invalid(path, value, "one of " + ", ".join(kind))
        return kind(value)
    # A comparison, since a whole number can be too large to become a float; NaN fails it as well.
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    raise _invalid(
        path, value, {float: "a finite number", int: "a whole number", bool: "true or false"}.get(kind, "text")
    )


def _section(kind: Any, value: object, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _invalid(path, value, "a section with keys")
    fields: Mapping[str, Any] = types.MappingProxyType({f.name: f.type for f in dataclasses.fields(kind)})
    for key in value:
        if key not in fields:
            raise PolicyInvalid(
                f"unknown policy key {str(key)[:60]!r} in {path}", next="known keys there: " + ", ".join(fields)
            )
    for name in _needed(kind):
        if name not in value:
            raise PolicyInvalid(f"policy key {name!r} is missing in {path}", next="policy.yaml shows every key")
    return kind(**{name: build(fields[name], given, f"{path}.{name}") for name, given in value.items()})


def _needed(kind: Any) -> list[str]:
    """Return the keys that have to be given: those without a default."""
    return [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]


def _invalid(path: str, value: object, wanted: str) -> PolicyInvalid:
    return PolicyInvalid(f"{path} is {str(value)[:60]!r}", next=f"give {wanted}")
