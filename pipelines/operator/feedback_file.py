"""Reads the labels that somebody has written into a file: CSV with a head, or a JSON list of objects."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.documents import DocumentError, parse_json
from pipelines.domain.description import Label, Task, label_text
from pipelines.errors import UsageError

# As much as a hundred thousand labels take.
_MOST_BYTES = 32 << 20
# So many are sent at once.
PIECE = 2000
_COLUMNS = {"request_id", "label", "row"}


def read_labels(path: Path, live: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `request_id`, `row` and `label` of each label of a file, as the API takes them; raise UsageError.

    What stands in a CSV file is text: it becomes the class that it says, or a number, by what `live` (the answer of the
    API's /live) says of the model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", next="name a file of labels: FILE=name") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB", next="send it in parts")
    try:
        rows = _json_rows(content) if content.lstrip()[:1] == b"[" else _csv_rows(content.decode("utf-8-sig"), live)
    except (DocumentError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no list of labels: {error}", next=_FORM) from error
    if not rows:
        raise UsageError(f"{path} has no label", next=_FORM)
    return rows


_FORM = "give CSV with the columns request_id, label and, in a batch, row; or a JSON list of such objects"


def _json_rows(content: bytes) -> list[dict[str, Any]]:
    body = parse_json(content, most_bytes=_MOST_BYTES)
    for number, each in enumerate(body):
        if not isinstance(each, dict) or not {"request_id", "label"} <= each.keys() <= _COLUMNS:
            raise DocumentError(f"entry {number} has not the keys request_id and label")
    return list(body)


def _csv_rows(text: str, live: Mapping[str, Any]) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = reader.fieldnames or []
    if len(set(columns)) != len(columns) or not {"request_id", "label"} <= set(columns) <= _COLUMNS:
        raise DocumentError(f"its columns are {', '.join(columns)[:200]}")
    found = []
    for number, line in enumerate(reader, start=2):
        if None in line or None in line.values():
            raise DocumentError(f"line {number} has not as many values as there are columns")
        row = line.get("row") or "0"
        if not (row.isascii() and row.isdigit() and len(row) < 10):
            raise DocumentError(f"line {number}: {row[:40]!r} is no number of a row")
        label = _typed(line["label"], live.get("task"), live.get("classes") or (), number)
        found.append({"request_id": line["request_id"], "row": int(row), "label": label})
    return found


def _typed(text: str, task: str | None, classes: Sequence[Label], line: int) -> Label:
    if task == Task.REGRESSION:
        try:
            return float(text)
        except ValueError:
            raise DocumentError(f"line {line}: {text[:40]!r} is no number") from None
    # What is no class is refused by the API, which says which there are.
    return next((each for each in classes if label_text(each) == text), text)
