"""The load for Locust, by hand or under `loadtests.run`.

`locust -f loadtests/locustfile.py --rows-file ROWS --host URL`: with the web UI, `--headless` or `--processes`.
Each Locust user adds `--rate` requests a second, sent by schedule and not by reply.
"""

import argparse
import json
import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.generator.control import ENDPOINT_VARIABLE, OWN_ENDPOINT
from loadtests.generator.gathering import Gathering, SentRecording
from loadtests.generator.recording import Recording
from loadtests.generator.turn import Turn
from loadtests.generator.users import Load, OpenModelUser
from loadtests.plan.personas import read_mix, requests_of
from loadtests.plan.plan import Arrivals, PlanError
from loadtests.plan.reading import read_rows
from loadtests.plan.shapes import STEADY, ShapeKind, read_shape

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
    group.add_argument("--turns-file", default="", help="JSON list of number, host, warmup_s and duration_s, in turn")
    group.add_argument("--raw-file", default="", help="Parquet file for raw values, one a worker (one user each)")
    group.add_argument("--gather", action="store_true", help="send workers rows and turns, and write their raw files")


@events.init.add_listener  # type: ignore[untyped-decorator]
def refuse_early(environment: Environment, **_: Any) -> None:
    """End Locust at its start where the load can't be read, which a master may send to its workers."""
    options, runner = _options(environment), environment.runner
    if options.gather and isinstance(runner, WorkerRunner):
        return
    if options.gather and isinstance(runner, MasterRunner):
        Gathering(environment, runner, Path(options.raw_file))
    try:
        OpenModelUser.load = _read_load(environment)
    except (PlanError, ValueError) as error:
        sys.exit(f"error: {error}")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def take_load(environment: Environment, **_: Any) -> None:
    """Hand the load to the users, as the web UI or the master has it now; record it for a raw file."""
    options, runner = _options(environment), environment.runner
    gathers = options.gather and isinstance(runner, MasterRunner)
    if gathers:
        # Whatever the options hold goes to the workers, and as text it arrives as it was read.
        options.contents = json.dumps(_read_files(options))
    try:
        OpenModelUser.load = _read_load(environment)
    except (PlanError, ValueError) as error:
        logging.getLogger(__name__).error("the load stays as it was: %s", error)
    if options.raw_file and not gathers and not OpenModelUser.recording:
        OpenModelUser.recording = _record(environment, Path(options.raw_file))


def _options(environment: Environment) -> argparse.Namespace:
    if environment.parsed_options is None:
        raise RuntimeError("the load is described by command line options; start it with the locust command")
    options: argparse.Namespace = environment.parsed_options
    return options


def _read_load(environment: Environment) -> Load:
    options = _options(environment)
    mix, shape = read_mix(options.mix), read_shape(options.shape)
    if math.isinf(options.duration) and shape.kind not in ENDLESS:
        raise ValueError(f"a {shape.kind} needs --duration")
    sent = isinstance(environment.runner, WorkerRunner) and options.gather
    contents = json.loads(options.contents) if sent else _read_files(options)
    host = os.environ.get(ENDPOINT_VARIABLE) if environment.host == OWN_ENDPOINT else options.host
    turn = {"number": 0, "host": host or "", "warmup_s": options.warmup, "duration_s": options.duration}
    return Load(
        requests={persona: requests_of(persona, contents["rows"], options.path) for persona, _ in mix},
        mix=mix,
        rate_per_s=options.rate,
        shape=shape if math.isfinite(options.duration) else STEADY,
        arrivals=Arrivals(options.arrivals),
        seed=options.seed,
        expected_version=options.expected_version,
        turns=tuple(Turn(**each) for each in contents["turns"] or [turn]),
        timeout_s=options.timeout,
        max_in_flight=options.max_in_flight,
    )


def _read_files(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return what the files hold that the options name; without a turns file there is one turn, of the options."""
    turns = json.loads(Path(options.turns_file).read_bytes()) if options.turns_file else []
    return {"rows": read_rows(Path(options.rows_file)), "turns": turns}


def _record(environment: Environment, path: Path) -> Recording:
    """Record every request of this process; workers of one master write a file each, or send it."""
    turns, runner = len(OpenModelUser.load.turns), environment.runner
    if not isinstance(runner, WorkerRunner):
        recording = Recording(path, turns)
    elif _options(environment).gather:
        recording = SentRecording(path, turns)
    else:
        # It ends with its master, which would take its end for a loss.
        path = path.with_stem(f"{path.stem}-worker{runner.worker_index}")
        recording = Recording(path, turns, ends_run=False)
    environment.events.request.add_listener(recording.on_request)  # type: ignore[no-untyped-call]
    environment.events.quit.add_listener(recording.on_quit)  # type: ignore[no-untyped-call]
    return recording
