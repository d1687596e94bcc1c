"""The load for Locust, by hand or under `loadtests.run`.

`locust -f loadtests/locustfile.py --rows-file ROWS --host URL`: with the web UI, `--headless` or `--processes`.
Each Locust user adds `--rate` requests a second, sent by schedule and not by reply.
"""

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.personas import read_mix, requests_of
from loadtests.plan import Arrivals, PlanError, read_rows
from loadtests.recording import Recording
from loadtests.shapes import STEADY, ShapeKind, read_shape
from loadtests.users import Leg, Load, OpenModelUser

__all__ = ["OpenModelUser"]

ENDLESS = (ShapeKind.STEADY, ShapeKind.SOAK)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: LocustArgumentParser) -> None:
    """Add what describes the load; a raw file is only written when it is named."""
    group = parser.add_argument_group("Open-model load")
    group.add_argument("--rows-file", required=True, help="JSON list of request objects")
    group.add_argument("--path", default="/predict", help="where to POST them; batches go to PATH/batch")
    group.add_argument("--rate", type=float, default=200.0, help="highest requests a second of each user")
    group.add_argument("--shape", default=str(ShapeKind.STEADY), help=f"{', '.join(ShapeKind)}, or JSON")
    group.add_argument("--mix", default="single=1", help="weights: single=9,batch=1,mistaken=0.5")
    group.add_argument("--arrivals", choices=list(map(str, Arrivals)), default=str(Arrivals.POISSON))
    group.add_argument("--seed", type=int, default=1, help="seed of the schedule")
    group.add_argument("--timeout", type=float, default=5.0, help="seconds from the intended time")
    group.add_argument("--max-in-flight", type=int, default=200, help="more than these count as failed")
    group.add_argument("--warmup", type=float, default=0.0, help="seconds before the measured window")
    group.add_argument("--duration", type=float, default=math.inf, help="seconds to measure")
    group.add_argument("--expected-version", default="", help="another one in a reply counts as a failure")
    group.add_argument("--legs-file", default="", help="JSON list of host, warmup_s, duration_s and seed, in turn")
    group.add_argument("--raw-file", default="", help="Parquet file for raw values, one a worker (one user each)")


@events.init.add_listener  # type: ignore[untyped-decorator]
def refuse_early(environment: Environment, **_: Any) -> None:
    """End Locust at its start where the load can't be read."""
    try:
        OpenModelUser.load = _read_load(_options(environment), None)
    except (PlanError, ValueError) as error:
        sys.exit(f"error: {error}")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def take_load(environment: Environment, **_: Any) -> None:
    """Hand the load to the users, as the web UI or the master has it now; record it for a raw file."""
    options = _options(environment)
    recording = OpenModelUser.load.recording
    if options.raw_file and not recording:
        recording = _record(environment, Path(options.raw_file))
    try:
        OpenModelUser.load = _read_load(options, recording)
    except (PlanError, ValueError) as error:
        logging.getLogger(__name__).error("the load stays as it was: %s", error)


def _options(environment: Environment) -> argparse.Namespace:
    if environment.parsed_options is None:
        raise RuntimeError("the load is described by command line options; start it with the locust command")
    options: argparse.Namespace = environment.parsed_options
    return options


def _read_load(options: argparse.Namespace, recording: Recording | None) -> Load:
    mix, shape = read_mix(options.mix), read_shape(options.shape)
    if math.isinf(options.duration) and shape.kind not in ENDLESS:
        raise ValueError(f"a {shape.kind} needs --duration")
    rows = read_rows(Path(options.rows_file))
    return Load(
        requests={persona: requests_of(persona, rows, options.path) for persona, _ in mix},
        mix=mix,
        rate_per_s=options.rate,
        shape=shape if math.isfinite(options.duration) else STEADY,
        arrivals=Arrivals(options.arrivals),
        expected_version=options.expected_version,
        legs=_read_legs(options),
        timeout_s=options.timeout,
        max_in_flight=options.max_in_flight,
        recording=recording,
    )


def _read_legs(options: argparse.Namespace) -> tuple[Leg, ...]:
    """Return what the legs file names, else the one leg that the options describe."""
    if options.legs_file:
        return tuple(Leg(**leg) for leg in json.loads(Path(options.legs_file).read_bytes()))
    return (Leg(options.host or "", options.warmup, options.duration, options.seed),)


def _record(environment: Environment, path: Path) -> Recording:
    """Record every request of this process; workers of one master write a file each."""
    if isinstance(environment.runner, WorkerRunner):
        path = path.with_stem(f"{path.stem}-worker{environment.runner.worker_index}")
    recording = Recording(path, len(OpenModelUser.load.legs))
    environment.events.request.add_listener(recording.on_request)  # type: ignore[no-untyped-call]
    environment.events.quit.add_listener(recording.on_quit)  # type: ignore[no-untyped-call]
    return recording
