"""Keep the raw value of each request that Locust's `request` event reports: no histogram, no rounding."""

import io
import json
import os
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.samples import Columns, Window, since_start, write_raw


@dataclass(frozen=True)
class Sample:
    """One request: times by the monotonic clock, status 0 and infinite latency where no reply came."""

    intended_s: float
    sent_s: float
    latency_ms: float
    status: int
    version: str
    error: str
    route: str
    persona: str
    turn: int


class Recording:
    """The raw values of one worker; `begin` and `end` mark the measured window of each turn."""

    def __init__(self, path: Path, turns: int, *, ends_run: bool = True) -> None:
        """Begin a recording of so many turns that will be written to `path`; the run may end with it."""
        self._path = path
        self._ends_run = ends_run
        self._turns = turns
        self._numbers = {name: array("d") for name in ("intended_s", "sent_s", "latency_ms")}
        self._status, self._turn = array("h"), array("h")
        self._texts: dict[str, list[str]] = {name: [] for name in ("version", "error", "route", "persona")}
        self._errors = 0
        self._began: tuple[float, float] | None = None
        self._windows: dict[int, Window] = {}

    def on_request(self, context: dict[str, Any], **_: Any) -> None:
        """Listen to Locust's `request` event."""
        sample: Sample = context["sample"]
        for name, values in self._numbers.items():
            values.append(getattr(sample, name))
        self._status.append(sample.status)
        self._turn.append(sample.turn)
        for name, texts in self._texts.items():
            texts.append(getattr(sample, name))
        self._errors += bool(sample.error)

    def begin(self) -> None:
        """Start to account the CPU time of this process: warm-up is over."""
        self._began = (time.monotonic(), time.process_time())

    def end(self, turn: int, *, measured_from_s: float, measured_until_s: float, planned: int) -> None:
        """Close the measured window of a turn, in which `planned` arrivals were due."""
        cpu = 0.0
        if self._began:
            cpu = (time.process_time() - self._began[1]) / (time.monotonic() - self._began[0])
        self._began = None
        self._windows[turn] = Window(measured_from_s, measured_until_s, planned, cpu)

    def show_progress(self) -> None:
        """Tell how far the run is."""
        write_progress(self._path, sent=len(self._status), errors=self._errors)

    @property
    def whole(self) -> bool:
        """Whether every turn has had its window."""
        return len(self._windows) == self._turns

    def over(self, runner: Any) -> None:
        """Take note that no request will follow."""
        if self._ends_run:
            runner.quit()

    def on_quit(self, **_: Any) -> None:
        """Listen to Locust's `quit` event: write the raw file, unless the run ended before its last window did."""
        if self.whole:
            write_raw(self._path, *self._content())

    def content(self) -> bytes:
        """Return the raw file of a recording that is over, for another machine: by time since each window began."""
        file = io.BytesIO()
        write_raw(file, *since_start(*self._content()))
        return file.getvalue()

    def _content(self) -> tuple[Columns, list[Window]]:
        columns: Columns = {**self._numbers, "status": self._status, **self._texts, "turn": self._turn}
        return columns, [self._windows[turn] for turn in range(self._turns)]


def write_progress(raw: Path, *, sent: int, errors: int) -> None:
    """Write how far the run is to a file beside the raw one, whole or not at all."""
    whole = raw.with_suffix(".progress.part")
    whole.write_text(json.dumps({"sent": sent, "errors": errors}), encoding="utf-8")
    os.replace(whole, raw.with_suffix(".progress"))
