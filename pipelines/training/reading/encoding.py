"""Which characters the bytes of a text file stand for: as declared, or as the bytes themselves say for certain."""

import codecs

from pipelines.errors import UsageError

# The longer marks first: UTF-32's begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What spreadsheets in Western Europe and America write where it is not UTF-8.
SPREADSHEET = "cp1252"
_SAMPLE_BYTES = 4096


def decoded(content: bytes, declared: str | None, name: str) -> tuple[str, str]:
    """Return the text of a file without its byte order mark, and the encoding that it was read by.

    Without a declared encoding it is what its byte order mark says, or else UTF-8. Raises UsageError with the line
    where the bytes are not of the encoding.
    """
    encoding = _known(declared, name) if declared else marked(content) or "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        what = f"declared {declared}" if declared else encoding.upper()
        raise UsageError(
            f"{name} is not {what}: {_where(content, encoding, error)}",
            next=f'declare in model.yaml how it is written, such as "encoding: {SPREADSHEET}" under source,'
            " or save it as UTF-8",
        ) from error
    if declared and codecs.lookup(encoding).name in _SINGLE_BYTE and _is_utf8_beyond_ascii(content):
        raise UsageError(
            f"{name} is declared {declared}, but it is UTF-8: it would be read as other characters",
            next="take encoding out of source in model.yaml",
        )
    return text.removeprefix("\ufeff"), encoding


def marked(content: bytes) -> str | None:
    """Return the encoding that the byte order mark of a file names; None where there is none."""
    return next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)


def probable(content: bytes) -> str | None:
    """Return the encoding to propose for a file that does not say it for certain; None where it does."""
    if marked(content):
        return None
    sample = content[:_SAMPLE_BYTES]
    if sample.count(0) > len(sample) / 4:
        # Of plain letters in UTF-16, the one byte or the other is zero.
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    for encoding in ("utf-8", SPREADSHEET):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if encoding == "utf-8" else encoding
    return "latin-1"


def line_at(text: str, position: int) -> int:
    """Return the number of the line that holds a position, counted from 1."""
    ends = text.count("\n", 0, position) + text.count("\r", 0, position) - text.count("\r\n", 0, position)
    return ends + 1


_SINGLE_BYTE = {codecs.lookup(name).name for name in ("latin-1", "cp1252", "iso8859-15", "cp1250", "cp850", "cp437")}


def _known(declared: str, name: str) -> str:
    try:
        b"x".decode(declared)
    except UnicodeDecodeError:
        # Of an encoding in which one byte is no character.
        pass
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"{name}: no encoding of texts is called {declared!r}",
            next="write utf-8, cp1252, latin-1 or utf-16 in model.yaml",
        ) from error
    return declared


def _where(content: bytes, encoding: str, error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    before = content[: error.start].decode(encoding, "replace")
    held = content[error.start : error.end][:4]
    return f"line {line_at(before, len(before))} holds {held!r}, which is {error.reason}"


def _is_utf8_beyond_ascii(content: bytes) -> bool:
    try:
        return not content.isascii() and bool(content.decode("utf-8"))
    except UnicodeDecodeError:
        return False
