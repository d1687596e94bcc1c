"""The home of an installation on one machine, taken while it runs, and put back as another home.

The order makes it consistent, so nothing is stopped for it. The checkpoints come before the chain, which then extends
them. The workflow journal comes before the records: a step that the records know and the journal does not is repeated,
which every step bears; the other way round it would be lost. MLflow and all that is named by digest come last, so that
they hold whatever the records name.

What somebody else named, such as the artifacts of a run, may have a name that no file of a backup has. It is kept by a
number, and gets its name back.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from pipelines.adapters.backup.numbered_files import INDEX, number, read_index, write_index
from pipelines.adapters.database.lost_files import CHECKPOINTS, JOURNAL, RECORDS, REGISTRY, refuse_lost
from pipelines.adapters.storage.bundle_store import PASSING
from pipelines.disk import sync
from pipelines.domain.backup import is_name
from pipelines.errors import BackupDamaged, Undecided, UsageError

ProgressReporter = Callable[[str], None]

# Before every name: what it belongs to. Files of the home that are kept by numbers are beside it.
HOME, NUMBERED = "home", "numbered"
# In the order in which they are taken.
_DATABASES = (JOURNAL, RECORDS, REGISTRY)
# What tells of processes, or can be had again.
_LEFT_OUT = frozenset(
    {"demo", "executor-lives", "jobs", "loadtests", "logs", "requests", "run", "slipway.db-signals", "work"}
)
# What is being written, or removed, by the folders in which Slipway itself does so; other files may end likewise.
_PASSING_FILES = {".": (".lock", ".partial", "-journal", "-shm", "-wal"), "evaluation-sets": (".partial",)}
_PASSING_FOLDERS = {"bundles": PASSING}
_TRIES = 3
_BUSY_S = 30.0


class LocalHome:
    """Fills ports.BackupPlace with the folder `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def capture(self, scratch: Path, report_progress: ProgressReporter) -> dict[str, Path]:
        """Return every file of the home's state by its name in a backup.

        Raises UsageError for a home that has lost a database, Undecided while releases end faster than the databases
        can be copied, OSError for what can't be read.
        """
        refuse_lost(self._home, *_DATABASES)
        for _ in range(_TRIES):
            taken = self._databases(scratch)
            # A release that ended in between would be in MLflow's copy, and not in that of the records.
            if _released(self._home / RECORDS) == _released(scratch / RECORDS):
                break
        else:
            raise Undecided("releases ended while the databases were copied", next="back up again")
        report_progress(f"copied {', '.join(taken)}")
        files = {f"{HOME}/{name}": scratch / name for name in taken}
        unnamed = dict[str, str]()
        for path in _state_files(self._home, report_progress):
            name = path.relative_to(self._home).as_posix()
            if is_name(f"{HOME}/{name}"):
                files.setdefault(f"{HOME}/{name}", path)
            else:
                kept_as = number(len(unnamed) + 1)
                unnamed[kept_as], files[f"{NUMBERED}/{kept_as}"] = name, path
        if unnamed:
            (scratch / NUMBERED).mkdir()
            write_index(scratch / NUMBERED, unnamed)
            files[f"{NUMBERED}/{INDEX}"] = scratch / NUMBERED / INDEX
        return dict(sorted(files.items()))

    def refuse_used(self) -> None:
        """Raise UsageError unless the home is new: there is none, or an empty folder."""
        refuse_used_home(self._home)

    def install(self, staged: Path, report_progress: ProgressReporter) -> None:
        """Let the staged home become the home; raise BackupDamaged for a name that is none in it, or given twice."""
        if (staged / NUMBERED).exists():
            for name, file in read_index(staged / NUMBERED):
                _give_name(file, name, staged / HOME)
        take_place(staged / HOME, self._home)

    def _databases(self, scratch: Path) -> list[str]:
        taken = []
        for name in (CHECKPOINTS, *_DATABASES):
            source, copy = self._home / name, scratch / name
            copy.unlink(missing_ok=True)
            if not source.exists():
                continue
            if name == CHECKPOINTS:
                copy.write_bytes(source.read_bytes())
            else:
                _copy_database(source, copy)
            taken.append(name)
        return taken


def refuse_used_home(home: Path) -> None:
    """Raise UsageError for a home in which there is anything."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UsageError(f"{home} is used", next='name a new home by SLIPWAY_HOME, or "make destroy CONFIRM=yes" this')


def take_place(folder: Path, home: Path) -> None:
    """Let a folder become the home, at once; an empty one makes room for it."""
    home.parent.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    folder.rename(home)
    sync(home.parent)


def _state_files(home: Path, report_progress: ProgressReporter) -> Iterator[Path]:
    """Yield the files of the home that are state, also of its folders on another disk; tell which others are left out.

    A link to a folder leads to another disk only if it stands in the home itself: deeper down, it may be anybody's.
    """
    links = [path for path in sorted(home.iterdir()) if path.is_symlink() and path.name not in _LEFT_OUT]
    linked = [path for path in links if path.is_dir()]
    for folder, folders, names in chain.from_iterable(os.walk(top, onerror=_refuse) for top in (home, *linked)):
        place = Path(folder).relative_to(home).as_posix()
        left_out: frozenset[str] = _LEFT_OUT.union(_DATABASES) if place == "." else frozenset()
        passing_folders, passing_files = _PASSING_FOLDERS.get(place, ()), _PASSING_FILES.get(place, ())
        folders[:] = sorted(name for name in set(folders) - left_out if not name.startswith(passing_folders))
        for name in sorted(set(names) - left_out):
            path = Path(folder, name)
            if name.endswith(passing_files):
                continue
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
            else:
                report_progress(f"left out {str(path)!r}, which is no plain file")
        for path in (Path(folder, name) for name in folders if place != "."):
            if path.is_symlink():
                report_progress(f"left out {str(path)!r}, which is a link to a folder")


def _give_name(file: Path, name: str, home: Path) -> None:
    """Move a file to its name below a home; raise BackupDamaged for a name that leaves it, or is another's."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise BackupDamaged(f"{name[:80]!r} is no name of a file in a home", next="take another copy of the backup")
    folder = home
    try:
        for part in parts[:-1]:
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
        given = folder / parts[-1]
        if given.exists():
            raise FileExistsError(given)
        file.rename(given)
    except FileExistsError as error:
        raise BackupDamaged(f"the backup holds {name[:80]!r} twice", next="take another copy of the backup") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(
                f"{name[:80]!r}... is too long a name in {home}", next="name a home with a shorter path"
            ) from error
        raise


def _refuse(error: OSError) -> None:
    """Raise what keeps a folder from being read: a backup without it would be none."""
    raise error


def _copy_database(source: Path, copy: Path) -> None:
    """Copy a SQLite file as of one moment, while others write to it; raise Undecided when it does not hold."""
    try:
        with closing(sqlite3.connect(source, timeout=_BUSY_S)) as live, closing(sqlite3.connect(copy)) as taken:
            live.backup(taken)
            taken.execute("PRAGMA journal_mode=DELETE")
            (told,) = taken.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise Undecided(f"{source} can't be copied: {error}", next="back up again") from error
    if told != "ok":
        raise Undecided(f"{source} is damaged: {told}", next="see that its disk is sound; keep the backups of before")


def _released(records: Path) -> list[tuple[str, str]]:
    """Return what has been released, as a database of records says it; nothing where there is none yet."""
    if not records.exists():
        return []
    with closing(sqlite3.connect(records, timeout=_BUSY_S)) as database:
        if not database.execute("SELECT name FROM sqlite_master WHERE name = 'releases'").fetchone():
            return []
        return database.execute("SELECT id, state FROM releases ORDER BY id").fetchall()
