"""Draw charts as inline SVG: scales, axes and marks; every text in them is escaped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 22, 34
ROW = 13
INK, FAINT, GOOD, BAD = "#57606a", "#d8dee4", "#0969da", "#a40e26"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """An axis: values from `low` to `high`, straightened by `place`, with labelled ticks."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    place: Callable[[Floats], Floats] = np.asarray

    def share(self, values: Floats) -> Floats:
        """Return where values lie between the ends, from 0 to 1; what is beyond an end lies on it."""
        low, high = self.place(np.array([self.low, self.high]))
        placed: Floats = (self.place(np.clip(values, self.low, self.high)) - low) / (high - low)
        return placed


def linear(low: float, high: float, title: str) -> Scale:
    """Return a straight axis with about six round ticks."""
    span = high - low
    unit = 10 ** math.floor(math.log10(span / 5))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 6)
    first = math.ceil(low / step)
    values = [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]
    return Scale(low, high, [(value, f"{value:g}") for value in values], title)


def logarithmic(low: float, high: float, title: str) -> Scale:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of each decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    ticks = [(value, f"{value:g}") for value in values if low <= value <= high]
    return Scale(low, high, ticks, title, np.log10)


class Chart:
    """One drawing with an axis each way; marks are added in the order in which they are painted."""

    def __init__(self, across: Scale, up: Scale) -> None:
        """Begin with the grid and the labels of both axes."""
        self._across, self._up = across, up
        self._parts: list[Markup] = []
        for value, label in across.ticks:
            x, bottom = self.at(value, up.low)
            self._line(x, TOP, x, bottom, FAINT)
            self._text(x, bottom + 13, label, "middle")
        for value, label in up.ticks:
            left, y = self.at(across.low, value)
            self._line(left, y, WIDTH - RIGHT, y, FAINT)
            self._text(left - 5, y + 3, label, "end")
        self._text(WIDTH - RIGHT, HEIGHT - 4, across.title, "end")
        self._text(4, 11, up.title, "start")

    def at(self, across: float, up: float) -> tuple[float, float]:
        """Return the place of a value on the drawing."""
        x, y = self._places(np.array([across]), np.array([up]))
        return float(x[0]), float(y[0])

    def line(self, across: Floats, up: Floats) -> None:
        """Draw a line through points."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(*self._places(across, up), strict=True))
        self._add('<polyline fill="none" stroke="{}" stroke-width="1.6" points="{}"/>', GOOD, points)

    def dots(self, across: Floats, up: Floats, *, radius: float, colour: str = GOOD) -> None:
        """Draw a dot for each point."""
        for x, y in zip(*self._places(across, up), strict=True):
            self._add('<circle cx="{}" cy="{}" r="{}" fill="{}" fill-opacity=".6"/>', _at(x), _at(y), radius, colour)

    def bars(self, edges: Floats, heights: Floats) -> None:
        """Draw a bar between each two edges, from the lower end of the axis."""
        xs, tops = self._places(edges, np.append(heights, self._up.low))
        for left, right, top in zip(xs, xs[1:], tops, strict=False):
            self._area(left, top, right - left - 0.5, HEIGHT - BOTTOM - top, GOOD, opacity=0.7)

    def span(self, begin: float, end: float, label: str, *, colour: str) -> None:
        """Shade what lies between two values of the axis across."""
        (left, _), (right, _) = self.at(begin, self._up.low), self.at(end, self._up.low)
        self._area(left, TOP, max(1.0, right - left), HEIGHT - BOTTOM - TOP, colour, opacity=0.25)
        beyond = left > WIDTH / 2
        self._text(left - 3 if beyond else right + 3, TOP + 10, label, "end" if beyond else "start", colour)

    def level(self, value: float, label: str, *, colour: str = BAD) -> None:
        """Draw a level line."""
        left, y = self.at(self._across.low, value)
        self._line(left, y, WIDTH - RIGHT, y, colour, dashed=True)
        self._text(WIDTH - RIGHT - 3, y - 3, label, "end", colour)

    def upright(self, value: float, label: str, *, row: int = 0, until: float | None = None) -> None:
        """Draw an upright line with its label in a row of its own, ringed where the axis up reaches `until`."""
        x, bottom = self.at(value, self._up.low)
        self._line(x, TOP, x, bottom, BAD, dashed=True)
        beyond = x > WIDTH * 0.85
        self._text(x - 4 if beyond else x + 4, TOP + 10 + ROW * row, label, "end" if beyond else "start", BAD)
        if until is not None:
            self._add(
                '<circle cx="{}" cy="{}" r="3.5" fill="none" stroke="{}"/>', _at(x), _at(self.at(value, until)[1]), BAD
            )

    def svg(self) -> Markup:
        """Return the drawing."""
        return Markup('<svg viewBox="0 0 {} {}" role="img">{}</svg>').format(
            WIDTH, HEIGHT, Markup("").join(self._parts)
        )

    def _places(self, across: Floats, up: Floats) -> tuple[Floats, Floats]:
        xs = LEFT + self._across.share(across) * (WIDTH - LEFT - RIGHT)
        ys = HEIGHT - BOTTOM - self._up.share(up) * (HEIGHT - BOTTOM - TOP)
        return xs, ys

    def _line(self, x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> None:
        dashes = Markup(' stroke-dasharray="4 3"') if dashed else ""
        ends = [_at(value) for value in (x1, x2, y1, y2)]
        self._add('<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="{}"{}/>', *ends, colour, dashes)

    def _area(self, x: float, y: float, width: float, height: float, colour: str, *, opacity: float) -> None:
        shape = [_at(value) for value in (x, y, max(0.5, width), max(0.0, height))]
        self._add('<rect x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="{}"/>', *shape, colour, opacity)

    def _text(self, x: float, y: float, text: str, anchor: str, colour: str = INK) -> None:
        self._add('<text x="{}" y="{}" text-anchor="{}" fill="{}">{}</text>', _at(x), _at(y), anchor, colour, text)

    def _add(self, form: str, *values: object) -> None:
        self._parts.append(Markup(form).format(*values))


def _at(value: float) -> str:
    return f"{value:.1f}"
