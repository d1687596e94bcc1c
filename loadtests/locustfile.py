"""The load for Locust, by hand or under `loadtests.run`: `locust -f loadtests/locustfile.py --host URL`.

Each Locust user adds `--rate` requests a second, sent by schedule and not by reply.
"""

import json
import math
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.plan import Arrivals, read_rows
from loadtests.recording import Recording
from loadtests.users import Load, OpenModelUser

__all__ = ["OpenModelUser"]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: LocustArgumentParser) -> None:
    """Add what describes the load; a raw file is only written when it is named."""
    group = parser.add_argument_group("Open-model load")
    group.add_argument("--rows-file", required=True, help="JSON list of request objects")
    group.add_argument("--path", default="/predict", help="where to POST them")
    group.add_argument("--rate", type=float, default=200.0, help="requests a second of each user")
    group.add_argument("--arrivals", choices=list(map(str, Arrivals)), default=str(Arrivals.POISSON))
    group.add_argument("--seed", type=int, default=1, help="seed of the schedule")
    group.add_argument("--timeout", type=float, default=5.0, help="seconds from the intended time")
    group.add_argument("--max-in-flight", type=int, default=200, help="more than these count as failed")
    group.add_argument("--warmup", type=float, default=0.0, help="seconds before the measured window")
    group.add_argument("--duration", type=float, default=math.inf, help="seconds to measure")
    group.add_argument("--raw-file", default="", help="Parquet file for raw values (one user)")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Hand the load to the users and, for a raw file, record every request."""
    options = environment.parsed_options
    if options is None:
        raise RuntimeError("the load is described by command line options; start it with the locust command")
    recording = Recording(Path(options.raw_file)) if options.raw_file else None
    OpenModelUser.load = Load(
        path=options.path,
        bodies=tuple(json.dumps(row).encode() for row in read_rows(Path(options.rows_file))),
        rate_per_s=options.rate,
        arrivals=Arrivals(options.arrivals),
        seed=options.seed,
        warmup_s=options.warmup,
        duration_s=options.duration,
        timeout_s=options.timeout,
        max_in_flight=options.max_in_flight,
        recording=recording,
    )
    if recording:
        environment.events.request.add_listener(recording.on_request)  # type: ignore[no-untyped-call]
        environment.events.quit.add_listener(recording.on_quit)  # type: ignore[no-untyped-call]
