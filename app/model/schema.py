"""Turns a bundle's features into validators: msgspec to decide fast, pydantic to list all faults.

Both refuse unknown, missing and mistyped fields, NaN and infinities. Of a repeated field the last one counts.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from app.errors import FieldError, InvalidFields, NotJson, RequestError
from app.model.description import Dtype, Feature, FeatureType

# Beyond it JSON readers disagree about an integer's value, and so do the validators here: one rounds, one does not.
_INTEGER_LIMIT = 2**53 - 1
# Beyond it a float32 input would become infinite, and the prediction NaN.
_NUMBER_LIMIT = {Dtype.FLOAT32: 3.4e38, Dtype.FLOAT64: 1.7e308}
# Listing every fault of a larger body would keep the others waiting; its first fault is named. That is a body of more
# than a few times what a row of all features takes, which has at least this many bytes for each.
_FULL_LIST_BYTES = 4096
_FULL_LIST_BYTES_A_FEATURE = 64
# So many of a category's values are named, and how many there are.
_NAMED_VALUES = 10
_PLAIN_TYPES: dict[FeatureType, Any] = {
    FeatureType.BOOLEAN: bool,
    FeatureType.TEXT: str,
    FeatureType.DATE: date,
    FeatureType.DATETIME: datetime,
}
_NUMBERS = (FeatureType.INTEGER, FeatureType.NUMBER)
_TIMES = (FeatureType.DATE, FeatureType.DATETIME)
# Names may hold any of these marks themselves, so the last place counts.
_AT = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_PATH = re.compile(r"\.?(?P<rows>rows(?=\[))?(?:\[(?P<row>\d+)\])?\.?(?P<name>.*)", re.DOTALL)
_NAMED = re.compile(r"(?:missing required|unknown) field `(?P<name>.*)`", re.DOTALL)
_NOT_WHOLE = "`float` that's a multiple of 1.0"
# msgspec raises the second for field names that are not UTF-8.
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError)
# What pydantic says in the words of Python.
_IN_JSON = {"model_type": "Input should be an object", "list_type": "Input should be a valid array"}
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RequestSchema:
    """Decodes request bodies into rows: structs whose attributes stand in the order of the features."""

    def __init__(self, features: Sequence[Feature], dtypes: dict[str, Dtype]) -> None:
        bounds = {each.name: _bounds(each, dtypes[each.name]) for each in features}
        # Feature names need not be Python names, hence the attributes f0, f1, ...
        renamed = {f"f{position}": each.name for position, each in enumerate(features)}
        fields = [
            _struct_field(attribute, each, bounds[each.name]) for attribute, each in zip(renamed, features, strict=True)
        ]
        self.attributes = tuple(renamed)
        # A row holds plain values, so no cycle of it can be left to the garbage collector.
        row_type = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=True, kw_only=True, gc=False)
        rows_type: Any = Annotated[list[row_type], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]
        batch_type = msgspec.defstruct("Batch", [("rows", rows_type)], forbid_unknown_fields=True)
        self._row_decoder = msgspec.json.Decoder(row_type)
        self._rows_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[row_type])  # type: ignore[valid-type]
        self._batch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch_type)
        self.row_model = _row_model(features, bounds)
        self._allowed = {each.name: _allowed(each) for each in features if len(each.categories) > _NAMED_VALUES}
        self.batch_model = _batch_model(self.row_model)
        self._full_list_bytes = max(_FULL_LIST_BYTES, _FULL_LIST_BYTES_A_FEATURE * len(features))

    def decode_row(self, body: bytes | bytearray) -> msgspec.Struct:
        """Return the row; raise NotJson, or InvalidFields for JSON that is no row."""
        try:
            return self._row_decoder.decode(body)
        except _UNDECODABLE as error:
            raise self._refusal(self.row_model, body, error) from error

    def decode_batch(self, body: bytes | bytearray) -> list[msgspec.Struct]:
        """Return the rows; raise as `decode_row` does, with fields like `rows.3.tenure`."""
        try:
            rows: list[msgspec.Struct] = self._batch_decoder.decode(body).rows
        except _UNDECODABLE as error:
            raise self._refusal(self.batch_model, body, error) from error
        return rows

    def decode_rows(self, listed: bytes, *, first: int) -> list[msgspec.Struct]:
        """Return the rows of a JSON array, cut from a batch at row `first`; raise as `decode_row` does."""
        try:
            rows: list[msgspec.Struct] = self._rows_decoder.decode(listed)
        except msgspec.ValidationError as error:
            fault = _from_msgspec(str(error))
            number, _, rest = fault.field.partition(".")
            path = ("rows", str(first + int(number)), rest)
            raise InvalidFields((FieldError(".".join(filter(None, path)), fault.message),)) from error
        except _UNDECODABLE as error:
            raise _not_json(f"{error}, in the rows from {first} on") from error
        return rows

    def _refusal(
        self, model: type[BaseModel], body: bytes | bytearray, error: msgspec.DecodeError | UnicodeDecodeError
    ) -> RequestError:
        if len(body) <= self._full_list_bytes:
            try:
                # Not from JSON at once: pydantic looks for each field among all the keys that came.
                model.model_validate(from_json(body))
            except ValidationError as faults:
                return self._from_pydantic(faults)
            except ValueError as fault:
                return _not_json(str(fault))
        # A body that only msgspec refuses, or too large to list its faults.
        if isinstance(error, msgspec.ValidationError):
            return InvalidFields((_from_msgspec(str(error)),))
        return _not_json(str(error))

    def _from_pydantic(self, faults: ValidationError) -> RequestError:
        found = faults.errors(include_url=False, include_context=False, include_input=False)
        return InvalidFields([FieldError(".".join(map(str, each["loc"])), self._message(each)) for each in found])

    def _message(self, fault: ErrorDetails) -> str:
        if fault["type"] == "literal_error":
            return self._allowed.get(str(fault["loc"][-1]), fault["msg"])
        return _IN_JSON.get(fault["type"], fault["msg"])


def _allowed(feature: Feature) -> str:
    named = ", ".join(map(repr, feature.categories[:_NAMED_VALUES]))
    return f"Input should be one of {len(feature.categories):,} values, such as {named}"


def _bounds(feature: Feature, dtype: Dtype) -> tuple[float, float]:
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    if feature.type is FeatureType.INTEGER:
        return math.ceil(max(low, -_INTEGER_LIMIT)), math.floor(min(high, _INTEGER_LIMIT))
    limit = _NUMBER_LIMIT.get(dtype, math.inf)
    return max(low, -limit), min(high, limit)


def _struct_field(attribute: str, feature: Feature, bounds: tuple[float, float]) -> tuple[Any, ...]:
    kind: Any = _PLAIN_TYPES.get(feature.type)
    if feature.type is FeatureType.CATEGORY:
        kind = Literal[feature.categories]
    elif feature.type is FeatureType.TEXT:
        kind = Annotated[str, msgspec.Meta(max_length=feature.maximum_length)]
    elif feature.type in _NUMBERS:
        # 2.0 is a whole number as well, which the type int does not take.
        step = 1 if feature.type is FeatureType.INTEGER else None
        kind = Annotated[float, msgspec.Meta(ge=bounds[0], le=bounds[1], multiple_of=step)]
    return (attribute, kind | None, None) if feature.nullable else (attribute, kind)


def _row_model(features: Sequence[Feature], bounds: dict[str, tuple[float, float]]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for position, feature in enumerate(features):
        kind: Any = _PLAIN_TYPES.get(feature.type)
        if feature.type in _TIMES:
            kind = Annotated[kind, BeforeValidator(_reader(kind))]
        text = None
        if feature.type is FeatureType.CATEGORY:
            kind = Literal[feature.categories]
        elif feature.type is FeatureType.TEXT:
            kind = Annotated[str, Field(max_length=feature.maximum_length)]
        elif feature.type in _NUMBERS:
            low, high = bounds[feature.name]
            # Within the type: pydantic describes bounds of what may be null in words that JSON Schema has not.
            within = Field(ge=low, le=high)
            whole = Annotated[int, within, BeforeValidator(_whole)]
            kind = whole if feature.type is FeatureType.INTEGER else Annotated[float, within]
            seen = feature.observed
            text = f"observed from {seen.minimum:g} to {seen.maximum:g}" if seen else None
        default: Any = None if feature.nullable else ...
        field: Any = Field(default, alias=feature.name, title=feature.name, description=text)
        fields[f"f{position}"] = (kind | None if feature.nullable else kind, field)
    model: type[BaseModel] = create_model("Row", __config__=_CONFIG, **fields)
    return model


def _batch_model(row_model: type[BaseModel]) -> type[BaseModel]:
    rows = Annotated[list[row_model], FailFast()]  # type: ignore[valid-type]
    model: type[BaseModel] = create_model("Batch", __config__=_CONFIG, rows=(rows, Field(min_length=1)))
    return model


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _reader(kind: type[date]) -> Callable[[Any], Any]:
    """Return what makes a text a date, or a date and time, as strictly as pydantic reads one in JSON."""
    adapter: TypeAdapter[date] = TypeAdapter(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return adapter.validate_json(msgspec.json.encode(value), strict=True)
        except ValidationError as faults:
            raise PydanticCustomError("no_time", "{reason}", {"reason": faults.errors()[0]["msg"]}) from None

    return read


def _from_msgspec(message: str) -> FieldError:
    at = _AT.match(message)
    what = at["what"] if at else message
    path = _PATH.fullmatch(at["path"] if at else "")
    named = _NAMED.search(what)
    parts = [*(path.groups() if path else ()), named["name"] if named else None]
    return FieldError(".".join(filter(None, parts)), what.replace(_NOT_WHOLE, "whole number"))


def _not_json(reason: str) -> NotJson:
    return NotJson(f"the body is not JSON: {reason}")
