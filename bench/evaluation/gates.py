"""What all offline gates cost together, by how many rows a version is judged on."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.service.trained import make_bundles
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from bench.support.report import RESULTS
from bench.support.stages import run_module
from pipelines.packaging.snapshot import read_snapshot, write_snapshot

ROWS = (1_409, 10_000, 100_000, 1_000_000)
_WITHIN_S = 1800.0
# What the policy's bounds of a job are for a million rows.
MEMORY_MB = 4096
PLOT = "gates.svg"


def measure(place: Place) -> Measured:
    """Judge a version of the project's model beside another one, on evaluation sets of several sizes."""
    candidate, champion = make_bundles(place, 2)
    tree = place.workdir / "tree-1"
    figures: dict[str, float] = {}
    for rows in ROWS[: place.count]:
        folder = place.workdir / f"rows-{rows}"
        _draw(tree, folder, rows)
        arguments = (str(candidate.path), str(champion.path), candidate.digest, str(folder))
        found = json.loads(run_module(place, "bench.evaluation.judging", *arguments, environ={}, within_s=_WITHIN_S))
        place.report_progress(f"{rows:,} rows: {found['seconds']:.1f} s, {found['memory_mb']:.0f} MiB")
        figures |= {f"rows_{rows}_s": found["seconds"], f"rows_{rows}_mb": found["memory_mb"]}
    _plot(figures, place.settings.project / RESULTS / PLOT)
    limits = (
        Limit("rows_1409_s", Bound.AT_MOST, 20),
        Limit("rows_1000000_s", Bound.AT_MOST, 300),
        Limit("rows_1000000_mb", Bound.AT_MOST, MEMORY_MB),
    )
    return Measured(
        about="all offline gates over a version of the project's model beside another one, in one confined job, on"
        f" evaluation sets drawn from its own with replacement; how it grows is drawn in {RESULTS}/{PLOT}",
        figures=figures,
        limits=tuple(limit for limit in limits if limit.figure in figures),
    )


def _draw(tree: Path, folder: Path, rows: int) -> None:
    """Write an evaluation set of so many rows of the tree's, and its training's answers to them."""
    folder.mkdir()
    snapshot = read_snapshot(tree / "data/snapshots/evaluation.parquet")
    chosen = np.random.default_rng(rows).integers(0, len(snapshot.frame), rows)
    drawn = snapshot.frame.iloc[chosen].reset_index(drop=True)
    write_snapshot(folder / "evaluation.parquet", drawn, replace(snapshot.description, identity=()))
    answers = pq.read_table(tree / "models/predictions.parquet").take(pa.array(chosen))
    pq.write_table(answers, folder / "predictions.parquet")


def _plot(figures: dict[str, float], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [each for each in ROWS if f"rows_{each}_s" in figures]
    with rc_context({"svg.hashsalt": "slipway", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.loglog(rows, [figures[f"rows_{each}_s"] for each in rows], marker="o")
        axes.set_xlabel("evaluation rows")
        axes.set_ylabel("seconds")
        axes.grid(visible=True, which="both", alpha=0.3)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content.getvalue())
