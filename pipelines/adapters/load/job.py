"""Runs a load run as a one-shot Swarm job on a network that leads to one environment's front end only."""

import math
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.adapters.load.files import pack, planned_s, read_run, unpack
from pipelines.adapters.load.networks import LoadNetworks
from pipelines.adapters.load.process import JUDGED
from pipelines.adapters.load.swarm import Job, JobState, LoadSwarm
from pipelines.adapters.load.tasks import JOIN_PORT, PLACE
from pipelines.adapters.swarm.tasks import Task
from pipelines.errors import TargetUnavailable, Undecided
from pipelines.ports import LoadRun, never_ending

POLL_S = 1.0
_LOG_LINES = 5
_AGAIN = "fix what it names, then run it again"

ProgressReporter = Callable[[str], None]


class LoadJob:
    """Fills ports.LoadRunner; `tell` hears of the run's progress.

    A plan's only worker is part of the job. Several are tasks of their own, on whatever nodes.

    A job may take `start_s` to run, and `spare_s` beyond its phases with their warm-ups to end. Runs do not overlap:
    each first removes what is left of others, whose executor has died.
    """

    def __init__(
        self,
        swarm: LoadSwarm,
        networks: LoadNetworks,
        *,
        report_progress: ProgressReporter = lambda line: None,
        spare_s: float = 120.0,
        start_s: float = 60.0,
    ) -> None:
        self._swarm = swarm
        self._networks = networks
        self._report_progress = report_progress
        self._spare_s = spare_s
        self._start_s = start_s

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        """Execute `plan` against the front of its host; what the run leaves is then in `workdir`/out.

        Nothing of the run is left in the engine when this returns or raises.
        """
        front = self._networks.front(plan["host"])
        fronts: dict[str, Any] = {"host": front.url, "via": "edge"}
        if "comparison" in plan:
            beside = self._networks.front(plan["comparison"]["host"])
            fronts["comparison"] = {**plan["comparison"], "host": beside.url}
        if plan["workers"] > 1:
            # Whoever asked for the run knows first, and why, when a worker does not start.
            fronts["join"] = {"port": JOIN_PORT, "wait_s": math.ceil(2 * self._start_s)}
        archive = pack({**plan, **fronts}, rows, PLACE)
        workdir.mkdir(parents=True, exist_ok=True)
        name = f"{self._swarm.prefix}-load-{secrets.token_hex(4)}"
        try:
            self.remove_left()
            try:
                job = self._swarm.start(name, archive, network=front.network, workers=plan["workers"])
                self._await_judgement(job, plan, workdir / "load.log", check)
                return self._fetch(job, workdir / "out")
            finally:
                self._remove(name)
        except TargetUnavailable as error:
            raise Undecided(f"the load run: {error.message}", next=error.next) from error

    def remove_left(self) -> set[str]:
        """End what runs have left whose executor died; return its names."""
        return self._swarm.remove()

    def _await_judgement(self, job: Job, plan: dict[str, Any], log: Path, check: Callable[[], None]) -> None:
        """Return once a judged result is there; raise Undecided, with the last lines, when none will be."""
        begun = ordered = time.monotonic()
        limit_s = planned_s(plan) + self._spare_s
        told = 0
        while True:
            check()
            look = self._swarm.look(job)
            log.write_bytes(look.log)
            told = self._tell_news(look, told)
            now = time.monotonic()
            failure = self._failure(look, started_s=now - ordered)
            if not failure and now - begun > limit_s:
                failure = f"did not end within {limit_s:g} s"
            if failure:
                tail = "\n".join(look.log.decode(errors="replace").splitlines()[-_LOG_LINES:])
                raise Undecided(f"the load run {failure}: {tail}".removesuffix(": "), next=_AGAIN)
            if look.task and not look.task.alive:
                return
            if plan["workers"] > 1 and not job.workers_id and look.task and look.task.state == "running":
                job = self._swarm.add_workers(job, plan["workers"])
                ordered = time.monotonic()
            time.sleep(POLL_S)

    def _failure(self, look: JobState, *, started_s: float) -> str | None:
        """Say why a job will bring no result, None while it still may or when it has.

        What was ordered last, the job or its workers, was ordered `started_s` ago.
        """
        if look.task is not None and not look.task.alive:
            return _end_of(look.task)
        for worker in look.workers:
            # Its samples are gone, and a successor knows nothing of them.
            if not worker.alive:
                return f"lost worker {worker.number}: {worker.state}{_why(worker)}"
        for who, task in (("", look.task), *((f"worker {worker.number} ", worker) for worker in look.workers)):
            if started_s > self._start_s and (task is None or task.state != "running"):
                standing = f"{who}{task.state} {task.reason}".strip() if task else "no task"
                return f"did not start within {self._start_s:g} s: {standing}"
        return None

    def _tell_news(self, look: JobState, told: int) -> int:
        """Pass the whole lines on that were written since the first `told`; return how many there are now."""
        lines = look.log.decode(errors="replace").split("\n")[:-1]
        for line in lines[told:]:
            self._report_progress(line)
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
            self._report_progress(error.message)


def _end_of(task: Task) -> str | None:
    """Say how a task ended that judged nothing; None for one that did."""
    code = task.exit_code
    if task.state == "complete" or (task.state == "failed" and code and code in JUDGED):
        return None
    return f"ended with {code}{_why(task)}" if code else f"ended as {task.state}{_why(task)}"


def _why(task: Task) -> str:
    return f" ({task.reason})" if task.reason else ""
