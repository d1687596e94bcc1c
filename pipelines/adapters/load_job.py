"""Runs a load run as a one-shot Swarm job on a network that leads to one environment's front end only."""

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.adapters.docker_engine import DockerEngine
from pipelines.adapters.load_files import pack, planned_s, read_run, unpack
from pipelines.adapters.load_networks import LoadNetworks
from pipelines.adapters.load_process import JUDGED
from pipelines.adapters.load_swarm import PLACE, Job, LoadSwarm, Look
from pipelines.adapters.swarm_tasks import Task
from pipelines.errors import TargetUnavailable, Undecided
from pipelines.ports import LoadRun

POLL_S = 1.0
_LOG_LINES = 5
_AGAIN = "mend what it names, then run it again"

Tell = Callable[[str], None]


class LoadJob:
    """Fills ports.LoadRunner; `prefix` is the installation's, `tell` hears of the run's progress.

    A job may take `start_s` to run, and `spare_s` beyond its stretches with their warm-ups to end. Runs do not overlap:
    each first removes what is left of others, whose executor has died.
    """

    def __init__(
        self,
        engine: DockerEngine,
        networks: LoadNetworks,
        *,
        prefix: str,
        image: str,
        tell: Tell = lambda line: None,
        spare_s: float = 120.0,
        start_s: float = 60.0,
    ) -> None:
        self._swarm = LoadSwarm(engine, prefix, image)
        self._networks = networks
        self._prefix = prefix
        self._tell = tell
        self._spare_s = spare_s
        self._start_s = start_s

    def run(self, plan: dict[str, Any], rows: list[dict[str, Any]], workdir: Path) -> LoadRun:
        """Execute `plan` against the front of its host; what the run leaves is then in `workdir`/out.

        Nothing of the run is left in the engine when this returns or raises.
        """
        front = self._networks.front(plan["host"])
        fronts: dict[str, Any] = {"host": front.url, "via": "edge"}
        if "comparison" in plan:
            beside = self._networks.front(plan["comparison"]["host"])
            fronts["comparison"] = {**plan["comparison"], "host": beside.url}
        archive = pack({**plan, **fronts}, rows, PLACE)
        workdir.mkdir(parents=True, exist_ok=True)
        name = f"{self._prefix}-load-{secrets.token_hex(4)}"
        try:
            self.remove_left()
            try:
                job = self._swarm.start(name, archive, network=front.network, workers=plan["workers"])
                self._await_judgement(job, plan, workdir / "load.log")
                return self._fetch(job, workdir / "out")
            finally:
                self._remove(name)
        except TargetUnavailable as error:
            raise Undecided(f"the load run: {error.message}", next=error.next) from error

    def remove_left(self) -> set[str]:
        """End what runs have left whose executor died; return its names."""
        return self._swarm.remove()

    def _await_judgement(self, job: Job, plan: dict[str, Any], log: Path) -> None:
        """Return once a judged result is there; raise Undecided, with the last lines, when none will be."""
        begun = time.monotonic()
        limit_s = planned_s(plan) + self._spare_s
        told = 0
        while True:
            look = self._swarm.look(job)
            log.write_bytes(look.log)
            told = self._tell_news(look, told)
            failure = self._failure(look.task, time.monotonic() - begun, limit_s)
            if failure:
                tail = "\n".join(look.log.decode(errors="replace").splitlines()[-_LOG_LINES:])
                raise Undecided(f"the load run {failure}: {tail}".removesuffix(": "), next=_AGAIN)
            if look.task and not look.task.alive:
                return
            time.sleep(POLL_S)

    def _failure(self, task: Task | None, waited_s: float, limit_s: float) -> str | None:
        """Say why a job will bring no result, None while it still may or when it has."""
        if task is not None and not task.alive:
            return _end_of(task)
        running = task is not None and task.state == "running"
        if not running and waited_s > self._start_s:
            standing = f"{task.state} {task.reason}".strip() if task else "no task"
            return f"did not start within {self._start_s:g} s: {standing}"
        return f"did not end within {limit_s:g} s" if waited_s > limit_s else None

    def _tell_news(self, look: Look, told: int) -> int:
        """Pass the whole lines on that were written since the first `told`; return how many there are now."""
        lines = look.log.decode(errors="replace").split("\n")[:-1]
        for line in lines[told:]:
            self._tell(line)
        return max(told, len(lines))

    def _fetch(self, job: Job, out: Path) -> LoadRun:
        if out.exists():
            shutil.rmtree(out)
        with self._swarm.results(job) as parts:
            unpack(parts, out)
        return read_run(out)

    def _remove(self, name: str) -> None:
        """Remove all of a run; what resists spoils no measurement, and the next run tries again."""
        try:
            self._swarm.remove(name)
        except TargetUnavailable as error:
            self._tell(error.message)


def _end_of(task: Task) -> str | None:
    """Say how a task ended that judged nothing; None for one that did."""
    code = task.exit_code
    if task.state == "complete" or (task.state == "failed" and code and code in JUDGED):
        return None
    why = f" ({task.reason})" if task.reason else ""
    return f"ended with {code}{why}" if code else f"ended as {task.state}{why}"
