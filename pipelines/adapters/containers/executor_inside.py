"""Asks the executor from inside of its container, as an operator of its engine can where the API does not answer."""

import json

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Undecided

# A process that is run in a container has none of the variables that its first one got from secrets.
_WORK = ["with-secrets", "--", "python", "-m", "pipelines.cli", "work"]


class ExecutorInside:
    """The executor of the installation `prefix`."""

    def __init__(self, engine: DockerEngine, prefix: str) -> None:
        self._engine = engine
        self._service = f"{prefix}-executor"

    def work(self) -> list[str]:
        """Return the work that it does or is about to begin.

        Raises TargetUnavailable when none runs on this engine, Undecided when it can't say.
        """
        _, told = self._engine.run_inside(self._service, _WORK)
        try:
            work: list[str] = json.loads(told)["work"]
        except (ValueError, KeyError, TypeError):
            raise Undecided(f"{self._service} does not say what it works on", next='see "slipway logs"') from None
        return work
