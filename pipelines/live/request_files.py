"""Keeps sampled requests as Parquet files of the home, and the labels that people send for them.

`requests/MODEL/ENVIRONMENT/date=YYYY-MM-DD/version=N/BOOT-LAST.parquet`: a file is what one pull brought of one
replica, up to the number LAST of that replica. So the names of the files say what was read already, whatever was cut
off. What many of them had is in one after a while: see `joined_files`.
`requests/MODEL/labels/date=YYYY-MM-DD/ID.parquet` are labels, by the day on which they came.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Label, label_text
from pipelines.domain.release import Environment
from pipelines.live.joined_files import MOST_JOINED, NAME, changed_at, join, present, remove_joined
from pipelines.live.told import Sampled, answered

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOLDER = "requests"
_LABELS = "labels"
_DATE = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
# Rows that are drawn take no more memory than this, whatever texts they hold: fewer are drawn then.
MOST_BYTES = 32 << 20
# In front of the names of features, which may be any.
_FEATURE = "feature."
ID, ROW, PREDICTION, SCORES, LABEL = "request_id", "row", "prediction", "scores", "label"


@dataclass(frozen=True)
class Window:
    """What a version was asked on a day in an environment."""

    model: str
    environment: Environment
    version: str
    day: date


@dataclass(frozen=True)
class Pulled:
    """Rows of one replica, which calls itself `boot`, in the order of their numbers, with their features."""

    model: str
    environment: Environment
    version: str
    boot: str
    features: Sequence[Feature]
    rows: Sequence[Sampled]


@dataclass(frozen=True)
class Spread:
    """Rows as the files have them, and of how many they are."""

    table: "pa.Table"
    of: int


class RequestFiles:
    """The files of sampled requests below the home."""

    def __init__(self, home: Path) -> None:
        self._root = home / FOLDER

    def last_read(self, model: str, environment: Environment, boot: str) -> int:
        """Return up to which number the files have what a replica has sampled; 0 where they have nothing of it."""
        found = (self._root / model / environment).glob(f"date=*/version=*/{boot}-*.parquet")
        names = (NAME.fullmatch(path.name) for path in found)
        return max((int(name["last"]) for name in names if name), default=0)

    def add(self, pulled: Pulled) -> None:
        """Keep rows of one replica, a file for each of their days; adding them again is adding them once."""
        for day in sorted({row.at.date() for row in pulled.rows}):
            of_day = [row for row in pulled.rows if row.at.date() == day]
            place = self._place(Window(pulled.model, pulled.environment, pulled.version, day))
            _write(place / f"{pulled.boot}-{of_day[-1].seq:016d}.parquet", _table(pulled.features, of_day))

    def windows(self, model: str, environment: Environment) -> list[Window]:
        """Return the windows of which there are files, the oldest first."""
        found = []
        for path in sorted((self._root / model / environment).glob("date=*/version=*")):
            day = _DATE.fullmatch(path.parent.name)
            if day:
                version = path.name.partition("=")[2]
                found.append(Window(model, environment, version, date.fromisoformat(day[1])))
        return found

    def newest(self, model: str, environment: Environment, version: str, rows: int) -> "pa.Table | None":
        """Return the newest rows of a version, at most so many, the newest first; None where there are none.

        They are fewer where so many would take more than MOST_BYTES. Its columns are those of the files:
        `feature_names` and `frame_of` read them.
        """
        import pyarrow as pa

        windows = [window for window in self.windows(model, environment) if window.version == version]
        paths = [path for window in windows for path in present(self._place(window))]
        found: list[pa.Table] = []
        for path in sorted(paths, key=changed_at, reverse=True):
            if _rows_of(found) >= rows or _bytes_of(found) >= MOST_BYTES:
                break
            found.extend(_read(path))
        if not found:
            return None
        whole = _joined(found).sort_by([("at", "descending"), (ID, "ascending"), (ROW, "ascending")])
        return whole.slice(0, min(rows, max(1, whole.num_rows * MOST_BYTES // max(MOST_BYTES, whole.nbytes))))

    def spread(self, model: str, environment: Environment, version: str, since: datetime, rows: int) -> Spread | None:
        """Return rows that a version was asked since a moment, at most so many, as even over all as may be.

        None where there are none. They are fewer where so many would take more than MOST_BYTES: no more than one file
        and that is in memory at once.
        """
        windows = [each for each in self.windows(model, environment) if each.version == version]
        folders = [self._place(each) for each in windows if each.day >= since.date()]
        counts = {path: _asked_since(path, since) for each in folders for path in present(each)}
        total = sum(counts.values())
        wanted, before = min(rows, total), 0
        found: list[pa.Table] = []
        for path, count in counts.items():
            # The n-th of all that are wanted is row n * total // wanted: these are the numbers of those in this file.
            first, last = (-(-at * wanted // total) if total else 0 for at in (before, before + count))
            places = [number * total // wanted - before for number in range(first, last)]
            before += count
            for table in _read(path) if places else ():
                among = _since(table, since)
                # What has gone meanwhile is missing.
                found.append(among.take([place for place in places if place < among.num_rows]))
            while _bytes_of(found) > MOST_BYTES and _rows_of(found) > 1:
                # Every second of those so far, and half as many of those to come.
                whole, wanted = _joined(found), max(1, wanted // 2)
                found = [whole.take(list(range(0, whole.num_rows, 2)))]
        return Spread(_joined(found), total) if found else None

    def answers(self, window: Window, ids: "pa.Array") -> "pa.Table | None":
        """Return what the rows of some requests of a window were answered; None for none.

        That is request id, row, prediction and scores. No more than one file and what is returned is in memory at once.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = self._tables(window, [ID, ROW, PREDICTION, SCORES])
        among = (table.filter(pc.is_in(table[ID], value_set=ids)) for table in tables)
        found = [table for table in among if table.num_rows]
        return pa.concat_tables(found) if found else None

    def add_labels(self, model: str, day: date, id: str, labels: Iterable[tuple[str, int, Label]]) -> None:
        """Keep what is true of rows, by their request ids; adding them again is adding them once."""
        import pyarrow as pa

        ids, rows, values = zip(*labels, strict=True)
        columns = {
            ID: pa.array(ids, pa.string()),
            ROW: pa.array(rows, pa.int64()),
            LABEL: pa.array([label_text(value) for value in values], pa.string()),
        }
        _write(self._root / model / _LABELS / f"date={day}" / f"{id}.parquet", pa.table(columns))

    def labels(self, model: str, since: date) -> "pa.Table | None":
        """Return the labels that came since a day as texts, what came last behind what it corrects; None for none."""
        import pyarrow as pa

        found: list[pa.Table] = []
        for path in sorted((self._root / model / _LABELS).glob("date=*/*.parquet"), key=_order):
            day = _day(path)
            if day is not None and day >= since:
                found.extend(map(_with_texts, _read(path)))
        return pa.concat_tables(found) if found else None

    def files(self, model: str) -> list[tuple[date, Path, int]]:
        """Return day, path and bytes of every file of a model, the oldest day first."""
        found = []
        folders = {path.parent for path in (self._root / model).rglob("*.parquet")}
        for path in (path for folder in folders for path in present(folder)):
            with contextlib.suppress(OSError):
                day = _day(path)
                if day is not None:
                    found.append((day, path, path.stat().st_size))
        return sorted(found)

    def models(self) -> list[str]:
        """Return the models of which there are files."""
        return sorted(path.name for path in self._root.glob("*") if path.is_dir())

    def forget(self, model: str, *, before: date, most_bytes: int) -> tuple[int, int]:
        """Remove the files of a model that are older than a day, and the oldest of more bytes than there may be.

        Returns how many files went, and their bytes.
        """
        files = self.files(model)
        left_bytes = sum(size for _, _, size in files)
        count = gone_bytes = 0
        for day, path, size in files:
            if day >= before and left_bytes <= most_bytes:
                break
            path.unlink(missing_ok=True)
            count, gone_bytes, left_bytes = count + 1, gone_bytes + size, left_bytes - size
            for folder in (path.parent, path.parent.parent):
                # One that holds something stays.
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return count, gone_bytes

    def join(self, model: str, *, today: date) -> int:
        """Make one file of many that pulls of a replica have left, and remove those of the round before.

        Returns how many were removed. Cut off anywhere, every row is there, and counts once.
        """
        removed = joined = 0
        for folder in sorted((self._root / model).glob("*/date=*/version=*")):
            removed += remove_joined(folder)
            day = _day(folder)
            joined += join(folder, day_is_over=bool(day and day < today), most=MOST_JOINED - joined)
        return removed
        return removed

    def _tables(self, window: Window, columns: list[str] | None = None) -> Iterator["pa.Table"]:
        for path in reversed(present(self._place(window))):
            yield from _read(path, columns)

    def _place(self, window: Window) -> Path:
        folder = self._root / window.model / window.environment
        return folder / f"date={window.day}" / f"version={window.version}"


def feature_names(table: "pa.Table") -> list[str]:
    """Return the features that a table of rows has."""
    return [name.removeprefix(_FEATURE) for name in table.column_names if name.startswith(_FEATURE)]


def frame_of(table: "pa.Table") -> "pd.DataFrame":
    """Return the features of a table of rows, typed as those of a snapshot."""
    frame: pd.DataFrame = _features_of(table).to_pandas()
    return frame


def write_features(table: "pa.Table", path: Path) -> None:
    """Write the features of a table of rows, and nothing else of it, as a Parquet file."""
    import pyarrow.parquet as pq

    pq.write_table(_features_of(table), path)


def _features_of(table: "pa.Table") -> "pa.Table":
    names = feature_names(table)
    return table.select([_FEATURE + name for name in names]).rename_columns(names)


def _table(features: Sequence[Feature], rows: Sequence[Sampled]) -> "pa.Table":
    import pyarrow as pa

    kinds = {
        FeatureType.INTEGER: pa.int64(),
        FeatureType.NUMBER: pa.float64(),
        FeatureType.BOOLEAN: pa.bool_(),
        FeatureType.CATEGORY: pa.string(),
        FeatureType.TEXT: pa.string(),
        FeatureType.DATE: pa.date32(),
        FeatureType.DATETIME: pa.timestamp("us", tz="UTC"),
    }
    answers = [answered(row.answer) for row in rows]
    columns = {
        "seq": pa.array([row.seq for row in rows], pa.int64()),
        "at": pa.array([row.at for row in rows], pa.timestamp("us", tz="UTC")),
        ID: pa.array([row.request_id for row in rows], pa.string()),
        ROW: pa.array([row.number for row in rows], pa.int64()),
        PREDICTION: pa.array([prediction for prediction, _ in answers]),
        SCORES: pa.array([scores for _, scores in answers], pa.list_(pa.float64())),
    }
    for position, feature in enumerate(features):
        values = [row.values[position] for row in rows]
        columns[_FEATURE + feature.name] = pa.array(values, kinds[feature.type])
    return pa.table(columns)


def _with_texts(labels: "pa.Table") -> "pa.Table":
    """Return labels as texts: an earlier Slipway has kept numbers as such."""
    import pyarrow as pa

    if pa.types.is_string(labels.schema.field(LABEL).type):
        return labels
    texts = pa.array(map(label_text, labels[LABEL].to_pylist()), pa.string())
    return labels.set_column(labels.schema.get_field_index(LABEL), LABEL, texts)


def _rows_of(tables: Iterable["pa.Table"]) -> int:
    return sum(table.num_rows for table in tables)


def _bytes_of(tables: Iterable["pa.Table"]) -> int:
    return sum(table.nbytes for table in tables)


def _joined(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Return all rows of tables, with the columns that all of them have: a feature may be kept for a while only."""
    import pyarrow as pa

    shared = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
    return pa.concat_tables([table.select(shared) for table in tables])


def _asked_since(path: Path, since: datetime) -> int:
    """Count the rows of a file that were asked since a moment."""
    return sum(_since(table, since).num_rows for table in _read(path, ["at"]))


def _since(table: "pa.Table", since: datetime) -> "pa.Table":
    import pyarrow.compute as pc

    return table.filter(pc.greater_equal(table["at"], since))


def _write(path: Path, table: "pa.Table") -> None:
    """Write a file whole or not at all."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def _read(path: Path, columns: list[str] | None = None) -> Iterator["pa.Table"]:
    """Give the table of a file; nothing for one that has gone meanwhile, or that nobody can read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.suppress(OSError, pa.ArrowException, KeyError):
        yield pq.ParquetFile(path).read(columns)


def _day(path: Path) -> date | None:
    found = next((match for part in reversed(path.parts) if (match := _DATE.fullmatch(part))), None)
    return datetime.fromisoformat(found[1]).date() if found else None


def _order(path: Path) -> tuple[str, int]:
    """Order files of labels by their day and the number of their id."""
    return path.parent.name, int("".join(filter(str.isdigit, path.stem)) or 0)
