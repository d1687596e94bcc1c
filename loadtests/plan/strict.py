"""How the files of a load run are read: strictly, because a misspelt key would be a limit switched off."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, ValidationError, ValidationInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
LONGEST_VALUE = 60

_LEGAL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda _: "not a valid true or false",
    "dataclass_type": lambda _: "not a JSON object",
    "dict_type": lambda _: "not a JSON object",
    "enum": lambda context: f"not {context['expected'].replace(chr(39), '')}",
    "finite_number": lambda _: "not a valid number",
    "float_type": lambda _: "not a valid number",
    "greater_than": lambda context: f"must be above {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"must be {_number(context['ge'])} or more",
    "int_type": lambda _: "not a valid integer",
    "less_than": lambda context: f"must be below {_number(context['lt'])}",
    "less_than_equal": lambda context: f"must be at most {_number(context['le'])}",
    "string_too_short": lambda _: "must not be empty",
    "string_type": lambda _: "not a valid string",
    "too_short": lambda _: "must not be empty",
    "tuple_type": lambda _: "not a JSON list",
    "value_error": lambda context: str(context["error"]),
}
_KEYS = {"unexpected_keyword_argument": "unknown", "missing": "missing"}


def _refuse_null(value: T, info: ValidationInfo) -> T:
    if value is None and info.mode == "json":
        raise ValueError("leave it out instead")
    return value


# What a file may leave out, but not give as null.
Left = BeforeValidator(_refuse_null)


class FileSchema(GenerateJsonSchema):
    """The JSON Schema of a file in which nothing is null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe what is given where something is."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out a default of None, which stands for nothing given."""
        described = super().default_schema(schema)
        return {key: value for key, value in described.items() if key != "default" or value is not None}


def refusal(error: ValidationError, what: str) -> str:
    """Say what is wrong with a file: its unknown keys first, then its missing ones, then its first wrong value."""
    problems = error.errors(include_url=False)
    for kind, word in _KEYS.items():
        found = [problem for problem in problems if problem["type"] == kind]
        if found:
            where = found[0]["loc"][:-1]
            keys = sorted(str(problem["loc"][-1]) for problem in found if problem["loc"][:-1] == where)
            return f"{_place(where) or what} has {word} keys: {', '.join(keys)}"
    return _wrong_value(problems[0], what)


def _wrong_value(problem: ErrorDetails, what: str) -> str:
    kind, where = problem["type"], problem["loc"]
    if kind == "json_invalid":
        return f"{what} can't be read: {problem['msg']}"
    legal = _LEGAL[kind](problem.get("ctx", {})) if kind in _LEGAL else problem["msg"]
    if not where or kind == "dataclass_type":
        return f"{_place(where) or what} is {legal}"
    if where[-1] == "[key]":
        return f"{_place(where[:-2]) or what}: {str(problem['input'])[:LONGEST_VALUE]!r} is {legal}"
    value = repr(problem["input"])
    value = value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}..."
    name = _place(where[-1:]) if isinstance(where[-1], str) else _place(where[-2:])
    return f"{_place(where[:-1]) or what}: {name} is {value}, {legal}"


def _place(where: Sequence[int | str]) -> str:
    """Write a place of a file as people do: limits[0], comparison."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")


def _number(value: float) -> str:
    return f"{value:,.10g}"
