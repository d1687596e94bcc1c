"""Where a benchmark runs: a home of its own and free ports, so that a running installation is never touched."""

import dataclasses
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.settings.settings import Settings

ProgressReporter = Callable[[str], None]
# Kept from the environment: where the tools of this machine are.
TOOLS = ("SLIPWAY_TOOLS", "SLIPWAY_DOCKER")


@dataclass(frozen=True)
class Place:
    """Everything a benchmark needs; `settings` are those of its own home, `workdir` vanishes at its end.

    `count` and `only` are what somebody asked for: how often, and of what a benchmark does, what has this in its name.
    """

    settings: Settings
    environ: Mapping[str, str]
    workdir: Path
    report_progress: ProgressReporter
    count: int | None = None
    only: str = ""

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment of a process of this place."""
        return self.settings.child_environ(self.environ)


@contextmanager
def own_place(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> Iterator[Place]:
    """Yield a new place for the project and code of `settings`; what was set for another home does not hold."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        workdir = Path(directory).resolve()
        staging, production, api, mlflow = free_ports(4)
        own = dataclasses.replace(
            settings,
            home=workdir / "home",
            staging_port=staging,
            production_port=production,
            api_port=api,
            mlflow_port=mlflow,
        )
        kept = {k: v for k, v in environ.items() if k in TOOLS or not k.startswith(("SLIPWAY_", "TARGET"))}
        yield Place(own, kept, workdir, report_progress)


@contextmanager
def running_stack(place: Place) -> Iterator[None]:
    """Run the whole local stack of a place for as long as the block takes."""
    from pipelines.operator.up import bring_up
    from pipelines.wiring.targets import open_installation

    try:
        bring_up(place.settings, place.environ, place.report_progress)
        yield
    finally:
        open_installation(place.settings, place.environ).down(place.report_progress)


def slipway() -> str:
    """Return the path of this installation's command."""
    return str(Path(sys.executable).with_name("slipway"))


def free_ports(count: int) -> list[int]:
    """Return different TCP ports of 127.0.0.1 that nobody uses now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
