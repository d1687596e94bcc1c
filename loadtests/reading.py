"""Take the values of a dataclass from parsed JSON, strictly: a misspelt key would be a limit switched off."""

import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

_LARGEST = sys.float_info.max
_WRITTEN_AS = {float: (int, float), Path: str}


def typed(data: Any, kind: Any, where: str) -> dict[str, Any]:
    """Return the values that `data` gives for the fields of `kind`; raise ValueError on the first one wrong.

    Fields with a default may be left out. bool is never a number; what is no number, string or bool is
    left to the caller.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} is not a JSON object")
    _check_keys(data, kind, where)
    known = {field.name: _required(field.type) for field in fields(kind)}
    for name, value in data.items():
        if not _fits(value, known[name]):
            raise ValueError(f"{where}: {name} is {value!r}, not a valid {_type_name(known[name])}")
    return dict(data)


def _check_keys(data: Mapping[str, Any], kind: Any, where: str) -> None:
    names = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    for problem, keys in (("unknown", data.keys() - names), ("missing", needed - data.keys())):
        if keys:
            raise ValueError(f"{where} has {problem} keys: {', '.join(sorted(keys))}")


def _required(kind: Any) -> Any:
    """Return the type of a value that is given: of `float | None` it is float."""
    return get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


def _fits(value: Any, kind: Any) -> bool:
    wanted = _WRITTEN_AS.get(kind, kind)
    if wanted not in (bool, int, str, (int, float)):
        return True
    right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    # A comparison, since a whole number can be too large to become a float; NaN fails it as well.
    return right and (kind is not float or abs(value) <= _LARGEST)


def _type_name(kind: Any) -> str:
    return {float: "number", int: "integer", bool: "true or false"}.get(kind, "string")
