"""Run the supervisor of one endpoint.

`python -m pipelines.adapters.local.supervisor --model churn-model --environment staging --home D --port N`
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from pipelines.adapters.local.supervisor.control import Supervisor
from pipelines.adapters.local.supervisor.home import SupervisorHome
from pipelines.adapters.local.supervisor.slot import Rules
from pipelines.domain.names import checked_name
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import SlipwayError


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code of `pipelines.errors`."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    rules = Rules(options.replicas, options.start_deadline_s, options.silence_s)
    try:
        home = SupervisorHome(options.home, Endpoint(options.model, options.environment))
        asyncio.run(_run(Supervisor(home, options.port, rules, replaces=options.replace)))
    except SlipwayError as error:
        print(f"{error.message}; {error.next}", file=sys.stderr)
        return error.exit_code
    return 0


async def _run(supervisor: Supervisor) -> None:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    await supervisor.run(told_to_stop)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.adapters.local.supervisor", description=__doc__)
    parser.add_argument("--environment", type=Environment, choices=list(Environment), required=True)
    parser.add_argument("--model", type=lambda name: checked_name(name, what="model"), required=True)
    parser.add_argument("--home", type=Path, required=True, help="Slipway's home; gets run/ and logs/")
    parser.add_argument("--port", type=int, required=True, help="the live slot's port on 127.0.0.1")
    parser.add_argument("--replicas", type=int, default=1, help="replicas of the live slot")
    parser.add_argument("--start-deadline-s", type=float, default=30.0, help="until a replica must be ready")
    parser.add_argument("--silence-s", type=float, default=10.0, help="after which a replica counts as stuck")
    parser.add_argument("--replace", action="store_true", help="take over from the supervisor that runs here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
