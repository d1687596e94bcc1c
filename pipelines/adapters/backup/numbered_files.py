"""Files of a backup that have numbers for names, since their own need not be names of files here; an index has those.

An index is believed nothing: it gives each of the files that came beside it one name, and speaks of no other file.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import BackupDamaged

INDEX = "index.jsonl"


def number(count: int) -> str:
    """Return the name of the file that is the `count`th, from 1."""
    return f"{count:08d}"


def write_index(folder: Path, keys: Mapping[str, str]) -> None:
    """Write down what the files of a folder are called, by their numbers; a name need not be of whole letters."""
    lines = (json.dumps({"key": key, "file": file}) for file, key in keys.items())
    (folder / INDEX).write_text("".join(f"{line}\n" for line in lines))


def read_index(folder: Path) -> list[tuple[str, Path]]:
    """Return each name with its file, in the order of the index.

    Raises BackupDamaged unless the index names every plain file beside it once, and nothing else.
    """
    try:
        lines = [_key_and_file(line) for line in (folder / INDEX).read_bytes().splitlines()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(f"the index of the backup's {folder.name!r} can't be read: {error}") from error
    named = Counter(file for _, file in lines)
    there = {path.name for path in folder.iterdir() if path.is_file()} - {INDEX}
    wrong = [file for file, times in named.items() if times > 1 or file not in there]
    if wrong:
        raise _damaged(
            f"the index of the backup's {folder.name!r} names {wrong[0][:80]!r}, which is no file of its own"
        )
    if len(named) < len(there):
        raise _damaged(f"the index of the backup's {folder.name!r} names {len(named):,} of {len(there):,} files")
    return [(key, folder / file) for key, file in lines]


def _key_and_file(line: bytes) -> tuple[str, str]:
    described = json.loads(line)
    return str(described["key"]), str(described["file"])


def _damaged(message: str) -> BackupDamaged:
    return BackupDamaged(message, next="take another copy of the backup")
