"""Sections of the policy: read strictly, and refused by the name of their key.

An unknown key is refused rather than ignored, because a misspelt limit would be a gate switched off.
"""

import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from pipelines.errors import PolicyInvalid

S = TypeVar("S", bound="Section")

_UNKNOWN = {"extra_forbidden", "invalid_key"}
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_WANTED = {
    "bool_type": "true or false",
    "enum": "one of {expected}",
    "float_type": "a finite number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "section_or_false": "a section with keys, or false",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_type": "text",
    "too_long": "at most {max_length} entries",
    "too_short": "a list with at least one entry",
    "tuple_type": "a list with at least one entry",
}
# How pydantic says that it means the key of a mapping, and not its value.
_OF_KEYS = "[key]"


class Profile(StrEnum):
    """How thorough the evidence is: `demo` runs are short and marked."""

    FULL = "full"
    DEMO = "demo"


class Section(BaseModel):
    """Limits that stand together in a policy; a key that is left out has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_empty_keys(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            for key in cls.model_fields:
                if key in given and given[key] is None:
                    raise PydanticCustomError("empty_key", "empty", {"key": key})
        return given

    def check(self, profile: Profile) -> None:
        """Raise PolicyInvalid for limits that, taken together, nothing or everything would meet."""

    def as_json(self) -> dict[str, Any]:
        """Return the section with its defaults written out, as JSON; without the keys that limit nothing."""
        return _without_nothing(self.model_dump(mode="json"))


def read_section(kind: type[S], given: object, path: str) -> S:
    """Build a section from parsed YAML or JSON; raise PolicyInvalid naming the key below `path`."""
    try:
        return kind.model_validate(given)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        # A misspelt key says more than what its absence made of the others.
        unknown = [error for error in errors if error["type"] in _UNKNOWN]
        raise _Refused(kind, (unknown or errors)[0], path).refusal() from None


def refuse_unless(rules: list[tuple[bool, str, str]]) -> None:
    """Raise PolicyInvalid for the first of (holds, path, what is legal) that does not hold."""
    for holds, path, legal in rules:
        if not holds:
            raise PolicyInvalid(f"{path} is out of range", next=f"legal: {legal}")


def _without_nothing(body: dict[str, Any]) -> dict[str, Any]:
    given = {key: _without_nothing(value) if isinstance(value, dict) else value for key, value in body.items()}
    return {key: value for key, value in given.items() if value is not None and value != []}


class _Refused:
    """One error of pydantic, in the words of a policy."""

    def __init__(self, kind: type[Section], error: ErrorDetails, path: str) -> None:
        self._error = error
        self._kind, self._parent, self._key, self._field = _place(kind, error, path)
        self._path = self._parent if self._key is None else _joined(self._parent, self._key)

    def refusal(self) -> PolicyInvalid:
        """Return the refusal with what would be legal there."""
        what, context = self._error["type"], self._error.get("ctx", {})
        if what in _UNKNOWN:
            known = ", ".join(self._kind.model_fields)
            return PolicyInvalid(
                f"unknown policy key {str(self._key)[:60]!r} in {self._parent}", next=f"known keys there: {known}"
            )
        if what == "missing":
            return PolicyInvalid(
                f"policy key {self._key!r} is missing in {self._parent}", next="policy.yaml shows every key"
            )
        if what == "empty_key":
            return PolicyInvalid(f"{self._path}.{context['key']} is empty", next="give a value, or leave the key out")
        if what in _OUT_OF_RANGE:
            return PolicyInvalid(f"{self._path} is out of range", next=f"legal: {_legal(self._field)}")
        wanted = _WANTED.get(what, "a section with keys").format(**context)
        return PolicyInvalid(f"{self._path} is {str(self._error['input'])[:60]!r}", next=f"give {wanted}")


def _place(kind: type[Section], error: ErrorDetails, path: str) -> tuple[type[Section], str, str | int | None, Any]:
    """Follow an error's way from `kind`; return its section, that one's path, its key and the key's field."""
    parent, key, field = path, None, None
    for place, part in enumerate(error["loc"], start=1):
        below = (_section_in(field.annotation) or kind) if field else kind
        stranger = error["type"] in _UNKNOWN and place == len(error["loc"])
        if isinstance(part, str) and part not in below.model_fields and not stranger:
            if field and typing.get_origin(field.annotation) is dict and key in kind.model_fields and part != _OF_KEYS:
                parent, key = _joined(parent, key), part
            continue  # else the name that pydantic gives to one side of a choice
        if key is not None:
            parent = _joined(parent, key)
        if isinstance(part, str) or stranger:
            kind, field = below, below.model_fields.get(str(part))
        key = part
    return kind, parent, key, field


def _joined(path: str, key: str | int) -> str:
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}"


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section that an annotation such as `tuple[Limit, ...]` or `Limit | None` speaks of."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, Section) else None
    found = (_section_in(part) for part in typing.get_args(annotation))
    return next((section for section in found if section), None)


def _legal(field: Any) -> str:
    words: list[tuple[type, str, Callable[[Any], float]]] = [
        (Ge, "at least", lambda bound: bound.ge),
        (Gt, "above", lambda bound: bound.gt),
        (Le, "at most", lambda bound: bound.le),
        (Lt, "below", lambda bound: bound.lt),
    ]
    bounds = [
        f"{word} {value(bound):,g}"
        for kind, word, value in words
        for bound in (field.metadata if field else ())
        if isinstance(bound, kind)
    ]
    return " and ".join(bounds)
