"""Keep the raw value of every request, in memory and as Parquet: a judgement can be repeated from it."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

OK = 200
METADATA_KEY = b"slipway.windows"
Columns = Mapping[str, "Sequence[object] | NDArray[np.float64]"]
SCHEMA = pa.schema(
    [
        ("intended_s", pa.float64()),
        ("sent_s", pa.float64()),
        ("latency_ms", pa.float64()),
        ("status", pa.int16()),
        ("version", pa.string()),
        ("error", pa.string()),
        ("route", pa.string()),
        ("persona", pa.string()),
        ("turn", pa.int16()),
    ]
)


class Persona(StrEnum):
    """A kind of client: one that scores rows one by one, one that scores batches, one that makes mistakes."""

    SINGLE = "single"
    BATCH = "batch"
    MISTAKEN = "mistaken"


@dataclass(frozen=True)
class Window:
    """The measured part of one worker's run, by the clock of its raw file; arrivals before it are warm-up.

    `planned` counts the arrivals due in it; `cpu` is the worker's share of one core in it.
    """

    measured_from_s: float
    measured_until_s: float
    planned: int
    cpu: float


@dataclass(frozen=True)
class Look:
    """The measured requests of all workers in one phase of load, one array element a request.

    Times are seconds of the machine's monotonic clock, or, of workers that may be on machines of their own, since
    each one's measured window began. `latency_ms` counts from the intended time; it is infinite where no reply came.
    `served` counts the successful replies by the version that they name. `routes` tells of each route which requests
    were meant to be answered on it: mistakes, which are refused on purpose, belong to none. `workers` has what each of
    several measured, by its number.
    """

    window: Window
    intended_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    failed: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    served: dict[str, int]
    errors: dict[str, int]
    routes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    workers: tuple["Look", ...] = ()

    def part(self, route: str) -> "Look":
        """Return the requests of one route, whose latencies are judged by themselves; all where none is told apart."""
        if not self.routes:
            return self
        mask = self.routes.get(route, np.zeros(len(self.latency_ms), dtype=np.bool_))
        names = ("intended_s", "sent_s", "latency_ms", "failed", "answered")
        return replace(self, **{name: getattr(self, name)[mask] for name in names}, routes={}, workers=())

    @property
    def duration_s(self) -> float:
        """Return the length of the measured phase."""
        return self.window.measured_until_s - self.window.measured_from_s


def write_raw(into: Path | BinaryIO, columns: Columns, windows: Sequence[Window]) -> None:
    """Write one worker's raw values, warm-up included, with the window of each turn in the file's metadata.

    What is written to a path is there whole or not at all.
    """
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps([vars(window) for window in windows]).encode()})
    whole = into.with_suffix(".part") if isinstance(into, Path) else into
    pq.write_table(pa.table(columns, schema=schema), whole, compression="zstd")
    if isinstance(into, Path):
        os.replace(into.with_suffix(".part"), into)


def since_start(columns: Columns, windows: Sequence[Window]) -> tuple[Columns, list[Window]]:
    """Return raw values whose times count from the measured window of their turn, which then begins at 0.

    A monotonic clock means nothing on another machine.
    """
    began_s = np.array([window.measured_from_s for window in windows])[np.array(columns["turn"], dtype=np.int16)]
    times = {name: np.array(columns[name], dtype=np.float64) - began_s for name in ("intended_s", "sent_s")}
    moved = [
        replace(window, measured_from_s=0.0, measured_until_s=window.measured_until_s - window.measured_from_s)
        for window in windows
    ]
    return {**columns, **times}, moved


def read_look(paths: Sequence[Path]) -> Look:
    """Read the raw files of one look's workers and drop the warm-up of each."""
    (look,) = read_turns(paths)
    return look


def read_turns(paths: Sequence[Path]) -> list[Look]:
    """Read the raw files of one phase's workers as a look for each of its turns, without their warm-ups."""
    files = [pq.read_table(path) for path in paths]
    windows = [_windows(table) for table in files]
    turns = zip(*windows, strict=True)
    return [
        _merged([(_measured(table, number, window), window) for table, window in zip(files, turn, strict=True)])
        for number, turn in enumerate(turns)
    ]


def _windows(table: pa.Table) -> list[Window]:
    return [Window(**window) for window in json.loads(table.schema.metadata[METADATA_KEY])]


def _measured(table: pa.Table, turn: int, window: Window) -> pa.Table:
    of_turn = pc.and_(pc.equal(table["turn"], turn), pc.greater_equal(table["intended_s"], window.measured_from_s))
    return table.filter(of_turn).replace_schema_metadata()


def _merged(measured: Sequence[tuple[pa.Table, Window]]) -> Look:
    """Join what the workers measured in one turn."""
    if len(measured) == 1:
        return _look(*measured[0])
    tables, windows = zip(*measured, strict=True)
    window = Window(
        measured_from_s=min(window.measured_from_s for window in windows),
        measured_until_s=max(window.measured_until_s for window in windows),
        planned=sum(window.planned for window in windows),
        cpu=max(window.cpu for window in windows),
    )
    return replace(_look(pa.concat_tables(tables), window), workers=tuple(_look(*each) for each in measured))


def _look(table: pa.Table, window: Window) -> Look:
    failed = table["error"].to_numpy() != ""
    succeeded = table.filter(pc.and_(pc.equal(table["error"], ""), pc.equal(table["status"], OK)))
    return Look(
        window=window,
        intended_s=table["intended_s"].to_numpy(),
        sent_s=table["sent_s"].to_numpy(),
        latency_ms=table["latency_ms"].to_numpy(),
        failed=np.asarray(failed, dtype=np.bool_),
        answered=table["status"].to_numpy() > 0,
        served=_counts(succeeded["version"]),
        errors=_counts(table.filter(pc.not_equal(table["error"], ""))["error"]),
        routes=_routes(table),
    )


def sha256_of(path: Path) -> str:
    """Return `sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _routes(table: pa.Table) -> dict[str, NDArray[np.bool_]]:
    meant = pc.not_equal(table["persona"], Persona.MISTAKEN)
    return {
        route: pc.and_(meant, pc.equal(table["route"], route)).to_numpy()
        for route in pc.unique(table["route"]).to_pylist()
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
