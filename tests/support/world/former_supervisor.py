"""A supervisor as the first Slipway had it: one an environment, called keeper, that knows of no successor.

`python -m tests.support.world.former_supervisor` takes the options of today's.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from pipelines.adapters.local.supervisor import __main__ as supervisor
from pipelines.adapters.local.supervisor.control import Supervisor
from pipelines.adapters.local.supervisor.home import Record, SupervisorHome
from pipelines.adapters.local.supervisor.wire import Command
from pipelines.domain.release import Endpoint


class FormerRecord(Record):
    """A record that says no version, and nothing of predecessors."""

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().as_dict().items() if key not in ("wire", "former")}


class FormerHome(SupervisorHome):
    """A home where the supervisor left its files by its former name."""

    def __init__(self, home: Path, endpoint: Endpoint) -> None:
        super().__init__(home, endpoint)
        self.record_path = self.run_dir / f"keeper-{endpoint.environment}.json"
        self.socket_path = self.record_path.with_suffix(".sock")

    def save(self, record: Record) -> None:
        super().save(FormerRecord(**vars(record)))


class FormerSupervisor(Supervisor):
    """A supervisor that takes a command of today for none."""

    def _pass_on(self, writer: asyncio.StreamWriter) -> bool:
        raise ValueError(f"{Command.HAND_OVER!r} is not a valid Command")


if __name__ == "__main__":
    supervisor.SupervisorHome = FormerHome  # type: ignore[misc]
    supervisor.Supervisor = FormerSupervisor  # type: ignore[misc]
    sys.exit(supervisor.main())
