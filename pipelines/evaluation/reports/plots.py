"""Draws the plots of a report as SVG, from its numbers alone; the same report gives the same bytes.

Matplotlib takes a second to import, so it is imported when something is drawn. Its settings are the process's: one
drawing at a time. Every text is plain text of characters that people see; none is read as mathematics.
"""

import io
import math
import re
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.domain.figures import Bin, Confusion, Figures, Histogram, Line
from pipelines.domain.report import Report
from pipelines.domain.texts import printable
from pipelines.domain.verdict import Cell, GateResult, Table
from pipelines.evaluation.reports.summary import class_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Gates whose table is drawn: the title, and the column of the bars, "" for the one that holds what was judged.
_TABLES = {
    "slices": ("Slices", ""),
    "fairness": ("Fairness", "value"),
    "drift": ("Drift", "distance"),
    "robustness": ("Robustness", "share"),
}
# Bars beside labels of two lines, which are large enough for a phone; a few are no thicker than so many.
_MOST_BARS, _LEAST_BARS, _LABEL_CHARS, _LINE_CHARS, _CLASS_CHARS = 8, 4, 56, 30, 14
_COUNTS = re.compile(r"rows|count|n", re.IGNORECASE)
# A load run's name, and which quantile a check of it is about.
_QUANTILE = re.compile(r"(slo(?:\.[a-z_]+)?)\.p(\d{1,2}(?:\.\d+)?)")
_MOST_BLOCKS, _MOST_CURVE_POINTS = 1000, 500
# Shares of requests are drawn by how little is left, so that the tail can be read.
_SHARES, _LEAST_LEFT = (0.5, 0.9, 0.95, 0.99, 0.999), 0.0002
_DRAWING = threading.Lock()
_BLUE, _ORANGE, _RED, _GREY = "#0969da", "#bc4c00", "#a40e26", "#57606a"
# Where the axes stand in a drawing, as shares of it: left, bottom, width, height.
_PLACE, _BESIDE_NAMES, _BESIDE_LABELS = (0.15, 0.16, 0.82, 0.81), (0.3, 0.3, 0.67, 0.67), (0.46, 0.16, 0.51, 0.81)
_LINES = (_BLUE, _ORANGE, "#116329", "#8250df", "#bf3989", "#57606a")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "slipway",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d8dee4",
    "legend.fontsize": 9,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A drawing: its title, what it shows in words, and the SVG document."""

    title: str
    shows: str
    svg: str


Milliseconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Block(_Read):
    """The latencies of the two in one block of a comparison."""

    candidate_p99_ms: Milliseconds | None
    champion_p99_ms: Milliseconds | None


class Curve(_Read):
    """Which share of the requests was answered within so many milliseconds, in ascending points."""

    of: Literal["alone", "candidate_in_turn", "champion_in_turn"]
    ms: tuple[Milliseconds, ...] = Field(max_length=_MOST_CURVE_POINTS)
    share: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(max_length=_MOST_CURVE_POINTS)

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.ms) != len(self.share):
            raise ValueError("there is not one share for each latency")
        return self


class Load(_Read):
    """What of a load run's result is drawn beside what its gate says."""

    p50_ms: Milliseconds | None = None
    via: Literal["direct", "edge"] | None = None
    blocks: tuple[Block, ...] = Field((), max_length=_MOST_BLOCKS)
    curves: tuple[Curve, ...] = Field((), max_length=3)


def read_loads(results: Mapping[str, bytes]) -> dict[str, Load]:
    """Return what is drawn of load runs, by their names; `results` are their files, of which some may be unreadable."""
    found = {}
    for name, content in results.items():
        try:
            found[name.removesuffix(".json")] = Load.model_validate_json(content)
        except ValidationError:
            continue
    return found


def draw_plots(report: Report, loads: Mapping[str, Load]) -> tuple[Plot, ...]:
    """Return all plots that there are numbers for, those of the model first."""
    drawn = (each for each in report.gates if each.table or _QUANTILE.fullmatch(each.name))
    gates = tuple(replace(each, message="") for each in drawn)
    return _drawn(_Numbers(report.classes or (), report.figures, gates, tuple(sorted(loads.items()))))


@dataclass(frozen=True)
class _Numbers:
    """All that is drawn of a report."""

    classes: tuple[str, ...]
    figures: Figures | None
    gates: tuple[GateResult, ...]
    loads: tuple[tuple[str, "Load"], ...]


# What attaches a report may be cut off, and is then done again.
@lru_cache(maxsize=8)
def _drawn(numbers: _Numbers) -> tuple[Plot, ...]:
    drawings = [*_of_the_model(numbers), *_of_tables(numbers), *_of_the_service(numbers)]
    with _DRAWING, warnings.catch_warnings():
        # It warns of letters that its font lacks; the reader's may have them.
        warnings.simplefilter("ignore")
        return tuple(Plot(title, shows, _svg(draw)) for title, shows, draw in drawings)


Drawing = tuple[str, str, Callable[["Axes"], None]]


def _svg(draw: "Callable[[Axes], None]") -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.4))
        FigureCanvasSVG(figure)
        draw(figure.add_axes(_PLACE))
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def _of_the_model(numbers: _Numbers) -> Iterator[Drawing]:
    figures = numbers.figures
    if figures is None:
        return
    names = _Names(numbers.classes)
    versus = figures.versus
    if figures.roc:
        shows = "share of positives found by share of negatives taken for positive; the dashed line is chance"
        yield "ROC", shows, lambda axes: _roc(axes, names, figures.roc, versus.roc if versus else None)
    if figures.precision_recall:
        shows = "share of what was said to be positive that is, by share of positives found"
        yield "Precision and recall", shows, lambda axes: _precision_recall(axes, names, figures.precision_recall)
    if figures.calibration:
        shows = "how often something was so, by how probable it was said to be; on the dashed line it is calibrated"
        yield "Calibration", shows, lambda axes: _calibration(axes, figures.calibration)
    if confusion := figures.confusion:
        shows = "rows of each true class by the class that was answered"
        yield "Confusion", shows, lambda axes: _confusion(axes, names, confusion)
    if values := figures.values:
        shows = f"a sample of {len(values.x)} rows: what was answered by what is so; on the dashed line it is right"
        yield "Predicted and true", shows, lambda axes: _values(axes, values)
    if residuals := figures.residuals:
        shows = "how many rows are off by how much: what was answered less what is so"
        yield "Residuals", shows, lambda axes: _residuals(axes, residuals)
    if versus and (scores := versus.scores):
        shows = f"how many of the same {versus.rows:,} rows each model answers with which score"
        yield "Scores, against production", shows, lambda axes: _shift(axes, scores)


def _of_tables(numbers: _Numbers) -> Iterator[Drawing]:
    for gate in numbers.gates:
        title, column = _TABLES.get(gate.gate, ("", ""))
        if title and (bars := _bars_of(gate, column)):
            yield f"{title} ({gate.name})", _of_bars(bars), _bars(bars)


def _of_the_service(numbers: _Numbers) -> Iterator[Drawing]:
    loads = dict(numbers.loads)
    found = (_QUANTILE.fullmatch(gate.name) for gate in numbers.gates)
    for run in dict.fromkeys(each[1] for each in found if each):
        if quantiles := _quantiles(numbers.gates, run, loads.get(run)):
            shows = "share of requests answered within a latency, with its interval and the limit"
            yield f"Latency ({run})", shows, partial(_latency, found=quantiles)
        load = loads.get(run)
        if load and (curves := [each for each in load.curves if each.ms and each.ms[-1] > 0]):
            yield f"Latency of all requests ({run})", _of_curves(load), partial(_curves_of_latency, curves, quantiles)
        blocks = loads[run].blocks if run in loads else ()
        pairs = [(each.champion_p99_ms, each.candidate_p99_ms) for each in blocks]
        known = [(theirs, ours) for theirs, ours in pairs if theirs is not None and ours is not None]
        if known:
            shows = "p99 of both versions in each block of the load run; above the dashed line this one is slower"
            yield f"Latency against production ({run})", shows, partial(_blocks, found=known)


@dataclass(frozen=True)
class _Names:
    """The classes as they are written on a drawing."""

    classes: tuple[str, ...]

    def of(self, position: int | None) -> str:
        """Return a class's name by its position, or what is drawn where there is no choice."""
        return "this version" if position is None else _text(class_name(self.classes, position), _CLASS_CHARS)


def _roc(axes: "Axes", names: _Names, lines: tuple[Line, ...], champion: Line | None) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    if champion:
        axes.plot(champion.x, champion.y, color=_ORANGE, linewidth=1.4, label="production")
    _curves(axes, names, lines)
    _unit_square(axes, "false positive rate", "true positive rate")
    if champion or len(lines) > 1:
        axes.legend(loc="lower right")


def _precision_recall(axes: "Axes", names: _Names, lines: tuple[Line, ...]) -> None:
    _curves(axes, names, lines)
    _unit_square(axes, "recall", "precision")
    if len(lines) > 1:
        axes.legend(loc="lower left")


def _curves(axes: "Axes", names: _Names, lines: tuple[Line, ...]) -> None:
    for line, colour in zip(lines, _LINES, strict=False):
        axes.plot(line.x, line.y, color=colour, linewidth=1.6, label=names.of(line.position))


def _unit_square(axes: "Axes", across: str, up: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=across, ylabel=up)


def _calibration(axes: "Axes", bins: tuple[Bin, ...]) -> None:
    said, so = [each.said for each in bins], [each.so for each in bins]
    most = max(each.rows for each in bins) or 1
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    axes.plot(said, so, color=_BLUE, linewidth=1.2)
    axes.scatter(said, so, s=[20 + 120 * each.rows / most for each in bins], color=_BLUE, alpha=0.7)
    _unit_square(axes, "probability that was said", "share that was so")


def _confusion(axes: "Axes", names: _Names, confusion: Confusion) -> None:
    shares = [[count / (sum(row) or 1) for count in row] for row in confusion.counts]
    edges = [each - 0.5 for each in range(len(shares) + 1)]
    axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()
    shown = [names.of(each) for each in confusion.positions]
    turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if len(shown) > 3 else {}
    axes.set_xticks(range(len(shown)), shown, fontsize=9, **turned)
    axes.set_yticks(range(len(shown)), shown, fontsize=9)
    axes.set_position(_BESIDE_NAMES)
    axes.set(xlabel="answered", ylabel="true")
    axes.grid(False)
    for row, counts in enumerate(confusion.counts):
        for column, count in enumerate(counts):
            colour = "white" if shares[row][column] > 0.5 else "black"
            size = 11 if len(shown) < 5 else 7
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=size)


def _values(axes: "Axes", values: Line) -> None:
    ends = [min(*values.x, *values.y), max(*values.x, *values.y)]
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1)
    axes.scatter(values.x, values.y, s=14, color=_BLUE, alpha=0.5, linewidths=0)
    axes.set(xlabel="true", ylabel="answered")


def _residuals(axes: "Axes", found: Histogram) -> None:
    axes.stairs(found.candidate, found.edges, fill=True, color=_BLUE, alpha=0.6)
    axes.axvline(0, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="error", ylabel="rows")


def _shift(axes: "Axes", scores: Histogram) -> None:
    axes.stairs(scores.candidate, scores.edges, fill=True, color=_BLUE, alpha=0.45, label="this version")
    if scores.champion is not None:
        axes.stairs(scores.champion, scores.edges, color=_ORANGE, linewidth=1.6, label="production")
    axes.set(xlabel="score", ylabel="rows")
    axes.legend()


@dataclass(frozen=True)
class _Bars:
    labels: list[str]
    values: list[float]
    name: str
    limit: float | None


def _bars_of(gate: GateResult, wanted: str) -> _Bars | None:
    """Return a column of a gate's table as bars: the one wanted, else the one that was judged, else the first."""
    table, observed = gate.table, gate.observed
    if table is None:
        return None
    numbers = {column: found for column in range(len(table.columns)) if (found := _numbers(table, column))}
    # The worst line mostly stands first, and what it says may stand in other columns of other lines.
    held = [column for column, found in numbers.items() if any(_same(each, observed) for each in found)]
    judged = sorted(held, key=lambda column: not _same(numbers[column][0], observed))
    named = [column for column in numbers if table.columns[column] == wanted]
    others = [column for column in numbers if not _COUNTS.fullmatch(table.columns[column])]
    drawn = next(iter((*named, *judged, *others)), None)
    if drawn is None:
        return None
    kept = [row for row in table.rows if len(row) == len(table.columns) and _finite(row[drawn])][:_MOST_BARS]
    texts = [column for column in range(len(table.columns)) if column not in numbers]
    labels = _labels(kept, texts[:2])
    if len(set(labels)) < len(labels):
        labels = _labels(kept, texts[:3])
    limit = gate.limit if drawn in judged and _finite(gate.limit) else None
    return _Bars(labels, [float(row[drawn]) for row in kept], table.columns[drawn], limit)  # type: ignore[arg-type]


def _labels(rows: Sequence[tuple[Cell, ...]], columns: list[int]) -> list[str]:
    """Return what stands in some columns of each row, in two lines at most."""
    texts = (", ".join(str(row[column]) for column in columns if row[column] not in (None, "")) for row in rows)
    cut = (_text(text, _LABEL_CHARS) for text in texts)
    return [
        "\n".join(textwrap.wrap(text, _LINE_CHARS, max_lines=2, placeholder="\N{HORIZONTAL ELLIPSIS}")) for text in cut
    ]


def _same(number: float, observed: float | None) -> bool:
    # Tables may be rounded.
    return observed is not None and math.isclose(number, observed, rel_tol=1e-3, abs_tol=1e-4)


def _numbers(table: Table, column: int) -> list[float]:
    cells = [row[column] for row in table.rows if len(row) == len(table.columns)]
    found = [float(each) for each in cells if _finite(each)]  # type: ignore[arg-type]
    return found if found and all(each is None or not isinstance(each, str) for each in cells) else []


def _finite(cell: object) -> bool:
    return isinstance(cell, int | float) and math.isfinite(cell) and abs(cell) < 1e30


def _of_bars(bars: _Bars) -> str:
    return f"{bars.name} of each line of the gate's table" + (", and the limit" if bars.limit is not None else "")


def _bars(bars: _Bars) -> "Callable[[Axes], None]":
    def draw(axes: "Axes") -> None:
        places = range(len(bars.values))
        axes.barh(places, bars.values, color=_BLUE, alpha=0.7)
        axes.set_yticks(places, bars.labels, fontsize=8.5, linespacing=1.0)
        axes.set_position(_BESIDE_LABELS)
        middle, room = (len(places) - 1) / 2, max(len(places), _LEAST_BARS) / 2
        axes.set_ylim(middle + room, middle - room)
        if bars.limit is not None:
            axes.axvline(bars.limit, color=_RED, linestyle="--", linewidth=1.2)
        axes.set_xlabel(_text(bars.name, _LABEL_CHARS))

    return draw


@dataclass(frozen=True)
class _Quantile:
    share: float
    ms: float
    interval: tuple[float, float] | None = None
    limit: float | None = None


def _quantiles(gates: Iterable[GateResult], run: str, load: Load | None) -> list[_Quantile]:
    """Return the quantiles that a load run has measured, as its gates say, with the median that its result has."""
    found = []
    if load and load.p50_ms is not None:
        found.append(_Quantile(0.5, load.p50_ms))
    for gate in gates:
        quantile = _QUANTILE.fullmatch(gate.name)
        if quantile and quantile[1] == run and gate.observed is not None and _finite(gate.observed):
            ends = gate.interval if gate.interval and all(map(_finite, gate.interval)) else None
            limit = gate.limit if _finite(gate.limit) else None
            found.append(_Quantile(float(quantile[2]) / 100, gate.observed, ends, limit))
    return sorted(found, key=lambda each: each.share)


def _latency(axes: "Axes", found: list[_Quantile]) -> None:
    places = range(len(found))
    axes.plot([each.ms for each in found], places, color=_BLUE, marker="o", markersize=5, linewidth=1)
    for place, each in zip(places, found, strict=True):
        if each.interval:
            axes.plot(each.interval, [place, place], color=_BLUE, linewidth=4, alpha=0.4)
        if each.limit is not None:
            axes.plot([each.limit], [place], color=_RED, marker="|", markersize=16, markeredgewidth=2, linestyle="")
    axes.set_yticks(places, [_percent(each.share) for each in found])
    axes.set(xlim=(0, None), ylim=(-0.5, len(found) - 0.5), xlabel="ms; the red line is the limit")


def _of_curves(load: Load) -> str:
    path = f" on the {load.via} path" if load.via else ""
    turns = "; in turn, both were loaded one after the other" if len(load.curves) > 1 else ""
    return f"share of requests{path} answered within a latency, and the limits of this version{turns}"


def _curves_of_latency(curves: list[Curve], found: list[_Quantile], axes: "Axes") -> None:
    drawn = {
        "alone": ("this version", _BLUE, "-"),
        "candidate_in_turn": ("this version, in turn", _BLUE, ":"),
        "champion_in_turn": ("production, in turn", _ORANGE, "-"),
    }
    for curve in curves:
        name, colour, line = drawn[curve.of]
        left = [_left(share) for share in curve.share]
        axes.plot(curve.ms, left, color=colour, linestyle=line, linewidth=1.5, drawstyle="steps-post", label=name)
    for each in found:
        if each.limit is not None and each.limit > 0:
            top = _left(each.share)
            axes.plot([each.limit, each.limit], [0, top], color=_RED, linestyle="--", linewidth=1.2)
            axes.plot([each.limit], [top], color=_RED, marker="_", markersize=12, markeredgewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks([_left(share) for share in _SHARES], [_percent(share) for share in _SHARES])
    axes.set(ylim=(0, _left(1.0)), xlabel="ms; the red lines are the limits")
    axes.legend(loc="upper left")


def _left(share: float) -> float:
    return -math.log10(max(1 - share, _LEAST_LEFT))


def _percent(share: float) -> str:
    return f"{share:.4%}".rstrip("0%").rstrip(".") + " %"


def _blocks(axes: "Axes", found: list[tuple[float, float]]) -> None:
    most = max(max(each) for each in found) or 1.0
    axes.plot([0, most], [0, most], color=_GREY, linestyle="--", linewidth=1)
    theirs, ours = zip(*found, strict=True)
    axes.scatter(theirs, ours, s=14, color=_BLUE, alpha=0.5, linewidths=0)
    axes.set(xlabel="production, ms", ylabel="this version, ms", xlim=(0, None), ylim=(0, None))


def _text(text: str, most: int) -> str:
    """Return a text as XML may hold it, cut to so many characters."""
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in printable(text))
    if len(shown) <= most:
        return shown
    # What is alike often begins alike.
    end = most // 3
    return shown[: most - end - 1] + "\N{HORIZONTAL ELLIPSIS}" + shown[-end:]
