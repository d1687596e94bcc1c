"""Take the values of a dataclass from parsed JSON, strictly: a misspelt key would be a limit switched off."""

import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

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


def is_plain(text: str) -> bool:
    """Tell whether text can stand in the head of a request as it is: ASCII that shows, without spaces."""
    return text.isascii() and text.isprintable() and " " not in text


def is_host(text: str) -> bool:
    """Tell whether text is an http URL that names a host, and no path: each request brings its own."""
    try:
        # Both are parsed when asked for, and refuse a port out of range and a name that can't be looked up.
        url = urlsplit(text)
        named = bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:
        return False
    bare = url.path in ("", "/") and not (url.query or url.fragment or url.username)
    return named and bare and is_plain(text) and url.scheme in ("http", "https")


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
