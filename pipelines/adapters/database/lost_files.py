"""Tells a database that has lost its file, or the content of it, from one that nobody made yet.

SQLite takes a file that is missing or empty for a new database: what it held would be gone without a word.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Undecided, UsageError
from pipelines.settings.installation import came_up

CHECKPOINTS, RECORDS, JOURNAL, REGISTRY = "audit-heads.jsonl", "slipway.db", "workflows.db", "mlflow.db"
_BEGINS = b"SQLite format 3\0"
RESTORE_IT = (
    'restore the last backup into a new home by "make restore", or put the file back from a copy of its disk; '
    'without either, "make destroy CONFIRM=yes" and begin anew'
)


def refuse_lost(home: Path, *names: str) -> None:
    """Raise UsageError for the first of these databases of a home that has lost its file, or what was in it.

    One that is not there yet is lost only if other files of the home show that it has been.
    """
    for name in names:
        file = home / name
        begins = _begin_of(file)
        if begins == _BEGINS or (not begins and not _existed(home, name)):
            continue
        told = "is missing" if begins is None else "is no database any more" if begins else "is empty"
        raise UsageError(f"{file} {told}, and has been the database of this home", next=RESTORE_IT)


@contextmanager
def damage_refused(file: Path) -> Iterator[None]:
    """Turn what SQLite says of a file into UsageError where it is damaged, into Undecided where it can't be used."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Undecided(
            f"{file} can't be used: {error}", next="see that its disk has room, then do it again"
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> UsageError:
    """Return the refusal to use a database that SQLite finds damaged."""
    return UsageError(f"{file} is damaged: {error}", next=RESTORE_IT)


def _begin_of(file: Path) -> bytes | None:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_BEGINS))
    except FileNotFoundError:
        return None


def _existed(home: Path, name: str) -> bool:
    # A checkpoint is written once the records have its entry.
    checkpoints = home / CHECKPOINTS
    return came_up(home) or (name == RECORDS and checkpoints.exists() and checkpoints.stat().st_size > 0)
