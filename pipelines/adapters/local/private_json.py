"""Facts that a home keeps as JSON in its private folder: written whole or not at all, empty where there are none."""

import json
from pathlib import Path
from typing import Any

from pipelines.disk import write_whole
from pipelines.documents import parse_json


def write_private(path: Path, body: dict[str, Any]) -> None:
    """Write JSON into a private folder, at once or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, json.dumps(body))


def read_private(path: Path) -> dict[str, Any]:
    """Return what was written; nothing where there is no such file, or another's."""
    try:
        kept = parse_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
