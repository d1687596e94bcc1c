"""How long a verb of the command line takes to start and answer."""

import subprocess
import sys
import time
from statistics import median

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, running_stack, slipway
from pipelines.errors import SlipwayError

RUNS = 10
LIMIT_S = 0.3


def measure(place: Place) -> Measured:
    """Time `--help` and `status` against a Python that does nothing, in turn."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "help": [slipway(), "--help"],
        "status": [slipway(), "status"],
    }
    taken_s: dict[str, list[float]] = {name: [] for name in commands}
    with running_stack(place):
        for _ in range(RUNS):
            for name, command in commands.items():
                taken_s[name].append(_run(place, command))
    figures: dict[str, float] = {}
    for name, values in taken_s.items():
        figures |= {f"{name}_min_s": min(values), f"{name}_median_s": median(values)}
    for name in ("help", "status"):
        figures[f"{name}_ratio_to_python"] = figures[f"{name}_median_s"] / figures["python_median_s"]
    return Measured(
        about=f"slipway --help, slipway status (with its stack running) and python -c pass, {RUNS} times in turn",
        figures=figures,
        limits=tuple(Limit(f"{name}_median_s", Bound.AT_MOST, LIMIT_S) for name in ("help", "status")),
        samples={f"{name}_s": values for name, values in taken_s.items()},
    )


def _run(place: Place, command: list[str]) -> float:
    begun = time.perf_counter()
    done = subprocess.run(
        command, env=place.child_environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    taken_s = time.perf_counter() - begun
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise SlipwayError(f"{' '.join(command[1:])} ended with {done.returncode}: {said}")
    return taken_s
