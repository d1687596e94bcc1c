"""Makes one file of many that the pulls of a replica have left, whatever cuts it off.

`BOOT-LAST.parquet` is what one pull brought of a replica, up to the number LAST, and `BOOT-FIRST-LAST.parquet` what
such files had, those from FIRST to LAST. They count no more once it has its name, and go a round later, so that who has
listed them can read them.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.disk import sync

if TYPE_CHECKING:
    import pyarrow as pa

NAME = re.compile(r"(?P<boot>[0-9a-f]{16})-(?:(?P<first>\d{16})-)?(?P<last>\d{16})\.parquet")
# So many files make one while their day goes on, and of one that is over any up to so many; but no larger one.
JOINED_FILES = 100
_JOINED_BYTES = 32_000_000
# And no more in a round, for the replicas are not asked meanwhile.
MOST_JOINED = 1000
_GROUP_ROWS, _GROUP_BYTES = 10_000, 32 << 20


def present(folder: Path) -> list[Path]:
    """Return the files of a folder that count, in the order of their names."""
    # Listed once: a file that gets its name in between makes others count no more.
    paths = sorted(folder.glob("*.parquet"))
    joined = set(_joined_already(paths))
    return [path for path in paths if path not in joined]


def remove_joined(folder: Path) -> int:
    """Remove the files whose rows another one has; return how many."""
    found = _joined_already(list(folder.glob("*.parquet")))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def join(folder: Path, *, day_is_over: bool, most: int) -> int:
    """Join files of a folder, at most so many; return how many."""
    fewest, joined = 2 if day_is_over else JOINED_FILES, 0
    for run in _runs(present(folder)):
        if joined + len(run) > most:
            break
        if len(run) >= fewest:
            _join(run)
            joined += len(run)
    return joined


def changed_at(path: Path) -> float:
    """Return when a file was changed last, 0 for one that has gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _joined_already(paths: Sequence[Path]) -> list[Path]:
    """Return the files whose rows another one has."""
    found = {path: match for path in paths if (match := NAME.fullmatch(path.name))}
    spans = [match for match in found.values() if match["first"]]
    return [
        path
        for path, match in found.items()
        if not match["first"]
        and any(span["boot"] == match["boot"] and span["first"] <= match["last"] <= span["last"] for span in spans)
    ]


def _runs(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give files of one replica, one behind the other, that have the same columns and are not too much for one."""
    run: list[Path] = []
    kind: Any = None
    size = 0
    for path in paths:
        found, size = _kind(path), size + _size(path)
        if run and (found != kind or size > _JOINED_BYTES or len(run) == JOINED_FILES):
            yield run
            run, size = [], _size(path)
        if found is not None:
            run.append(path)
        kind = found
    if run:
        yield run


def _kind(path: Path) -> "tuple[str, pa.Schema] | None":
    """Return replica and columns of a file; None for one that is made of others, or that nobody can read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = NAME.fullmatch(path.name)
    if named and not named["first"]:
        with contextlib.suppress(OSError, pa.ArrowException):
            return named["boot"], pq.read_schema(path)
    return None


def _join(run: Sequence[Path]) -> None:
    """Write what files have into one, whole or not at all, a part at a time; what can't be read leaves all as it is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    boot, first = run[0].stem.split("-")
    target = run[0].with_name(f"{boot}-{first}-{run[-1].stem.split('-')[1]}.parquet")
    partial = target.with_suffix(".partial")
    with contextlib.suppress(OSError, pa.ArrowException):
        with pq.ParquetWriter(partial, pq.read_schema(run[0]), compression="zstd") as writer:
            held: list[pa.Table] = []
            for path in run:
                held.append(pq.ParquetFile(path).read())
                rows, size = sum(table.num_rows for table in held), sum(table.nbytes for table in held)
                if path == run[-1] or rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                    writer.write_table(pa.concat_tables(held))
                    held = []
        # The newest rows are looked for by when a file was changed.
        os.utime(partial, (changed := changed_at(run[-1]), changed))
        # What it is made of goes: it has to outlive a power cut.
        sync(partial)
        partial.replace(target)
    partial.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
