"""Cuts the body of a large batch into slices of whole rows, so that no more than one slice is decoded at a stretch.

The place between two rows is told by its bytes, which may stand within a text as well. A slice that was cut there is no
JSON; then it is cut anew, with texts left out. So what is decoded are the very rows that the whole body would give.
"""

import re
from collections.abc import Iterator
from http import HTTPStatus

import msgspec

from app.errors import FieldError, InvalidFields, NotJson, RequestError
from app.model.schema import RequestSchema

# A batch of no more is decoded whole, and all of its faults are listed. Values that are left out count as well.
WHOLE_BYTES = 1 << 16
_WHOLE_VALUES = 1 << 19
SLICE_BYTES = 1 << 15
# Rows without values have two bytes each, and hundreds when they are decoded.
SLICE_ROWS = 256
ROW_LIMIT_BYTES = 1 << 20
ROWS_LIMIT = 250_000
_SPACE = rb"[ \t\n\r]*+"
_BETWEEN = re.compile(rb"\}" + _SPACE + rb"," + _SPACE + rb"\{")
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ROW = re.compile(
    rb'(?:[^"}]++|' + _TEXT + rb"|\}(?!" + _SPACE + rb"," + _SPACE + rb"\{))*+" + _BETWEEN.pattern, re.DOTALL
)
_OPENING = re.compile(_SPACE.join((b"", rb"\{", b'"rows"', b":", rb"\[")))
_CLOSING = re.compile(rb"\]" + _SPACE + rb"\}" + _SPACE + rb"\Z")
_TAIL_BYTES = 4096

Body = bytes | bytearray


def decode_in_slices(schema: RequestSchema, body: Body) -> Iterator[list[msgspec.Struct]]:
    """Yield the rows of a batch, slice by slice; raise RequestError as `RequestSchema.decode_batch` does."""
    if _is_whole(schema, body):
        yield schema.decode_batch(body)
        return
    at, end = _inside(body)
    count = 0
    while at < end:
        rows, at = _slice(schema, body, at, end, first=count)
        count += len(rows)
        if count > ROWS_LIMIT:
            text = f"the batch has more than {ROWS_LIMIT:,} rows"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text)
        yield rows
    if not count:
        raise _refused("rows", "there is no row")


def most_rows(schema: RequestSchema, body: Body) -> int:
    """Return how many rows of a batch are decoded at once, at most."""
    return body.count(b"{") if _is_whole(schema, body) else SLICE_ROWS


def _is_whole(schema: RequestSchema, body: Body) -> bool:
    return len(body) <= WHOLE_BYTES and body.count(b"{") * (1 + len(schema.attributes)) <= _WHOLE_VALUES


def _inside(body: Body) -> tuple[int, int]:
    """Return where the rows begin and end; raise RequestError where the body is not plainly `{"rows": [...]}`."""
    opening = _OPENING.match(body)
    closing = _CLOSING.search(body, max(0, len(body) - _TAIL_BYTES))
    if opening and closing:
        return opening.end(), closing.start()
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotJson(f"the body is not JSON: {error}") from error
    raise _refused(
        "rows", f"what has more than {WHOLE_BYTES:,} bytes, or as many rows, is one object with this key alone"
    )


def _slice(schema: RequestSchema, body: Body, at: int, end: int, *, first: int) -> tuple[list[msgspec.Struct], int]:
    """Return the rows of one slice, and where the next begins."""
    size = SLICE_BYTES
    while body.count(b"{", at, at + size) > SLICE_ROWS:
        size //= 2
    limit = at + SLICE_BYTES + ROW_LIMIT_BYTES
    between = _BETWEEN.search(body, min(end, at + size), min(end, limit))
    try:
        return _decoded(schema, body, (at, end), between, first=first)
    except NotJson:
        return _decoded(schema, body, (at, end), _between_rows(body, at, min(end, limit), size), first=first)


def _decoded(
    schema: RequestSchema, body: Body, span: tuple[int, int], between: re.Match[bytes] | None, *, first: int
) -> tuple[list[msgspec.Struct], int]:
    at, end = span
    if between is None and end - at > SLICE_BYTES + ROW_LIMIT_BYTES:
        raise _refused(f"rows.{first}", f"a row from here on has more than {ROW_LIMIT_BYTES:,} bytes")
    cut, following = (_before(between), between.end() - 1) if between else (end, end)
    return schema.decode_rows(b"[%b]" % bytes(memoryview(body)[at:cut]), first=first), following


def _between_rows(body: Body, at: int, limit: int, size: int) -> re.Match[bytes] | None:
    """Return the first place between rows behind a slice of `size` bytes that stands in no text."""
    row = _ROW.match(body, at, limit)
    while row and row.end() - at < size:
        row = _ROW.match(body, row.end() - 1, limit)
    return row


def _before(between: re.Match[bytes]) -> int:
    """Return where the row in front of the place ends."""
    return between.string.rindex(b"}", between.start(), between.end()) + 1


def _refused(field: str, message: str) -> InvalidFields:
    return InvalidFields((FieldError(field, message),))
