"""Measures Slipway on the machine it runs on; every figure comes with its machine and its limit."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping

from bench.support.machine import read_machine
from bench.support.measured import Measured
from bench.support.place import Place, ProgressReporter, own_place
from bench.support.report import result_body, show, write_result
from pipelines.errors import Undecided, UsageError
from pipelines.settings.settings import Settings

Benchmark = Callable[[Place], Measured]


def _measure_in(module: str) -> Benchmark:
    """Return a benchmark whose module is imported when it is run: some take seconds to import."""

    def measure(place: Place) -> Measured:
        measured: Measured = importlib.import_module(module).measure(place)
        return measured

    return measure


_ROOMS = {
    "service": ("predict", "request_log", "replica", "batches", "swap"),
    "installation": ("rollback", "executor", "cli", "demo", "upgrade", "images", "containers"),
    "load": ("judge", "generator"),
    "training": ("training",),
    "evaluation": ("gates",),
    "faults": ("faults",),
    "nodes": ("nodes",),
}
MODULES = {name: f"bench.{room}.{name}" for room, names in _ROOMS.items() for name in names}
BENCHMARKS: Mapping[str, Benchmark] = {name: _measure_in(module) for name, module in MODULES.items()}


def run_bench(
    name: str,
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: ProgressReporter,
    *,
    count: int | None = None,
    only: str = "",
    benchmarks: Mapping[str, Benchmark] = BENCHMARKS,
) -> None:
    """Run one benchmark or `all`, print its figures, and write `bench/results/NAME.json` in the project.

    A part of one (`only`) is printed and not written.

    Each has a home of its own and free ports; a missed limit is shown, not raised. Raises UsageError for an
    unknown name and Undecided when it was cut off.
    """
    if name != "all" and name not in benchmarks:
        raise UsageError(f"no benchmark {name[:40]!r}", next="one of: " + ", ".join([*benchmarks, "all"]))
    for chosen in benchmarks if name == "all" else [name]:
        try:
            report_progress(f"--- {chosen}")
            machine = read_machine()
            with own_place(settings, environ, report_progress) as place:
                measured = benchmarks[chosen](dataclasses.replace(place, count=count, only=only))
        except KeyboardInterrupt:
            raise Undecided(
                f"{chosen} was cut off; what it started has ended", next=f"slipway bench {chosen}"
            ) from None
        body = result_body(chosen, measured, machine, settings.project)
        if not only:
            write_result(settings.project, body)
        print(show(body))
