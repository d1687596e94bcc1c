"""One replica, started and ended as a supervisor does it, but without a supervisor beside it."""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import psutil

from bench.service.trained import ServedBundle
from bench.support.place import Place
from pipelines.adapters.local.supervisor.home import SupervisorHome
from pipelines.adapters.local.supervisor.replica import RunningReplica, Site, StartError
from pipelines.adapters.local.supervisor.sockets import HOST, claim_kept
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.domain.release import Environment, Release, Slot
from pipelines.errors import SlipwayError, UsageError

READY_WITHIN_S = 30.0
_ASK_EVERY_S = 0.002
MB = 1e6


@dataclass(frozen=True)
class ReadyReplica:
    """A replica that serves `port`; `ready_s` is the time from its spawn to its first confirmation."""

    port: int
    ready_s: float
    master_pid: int
    worker_pid: int
    private_socket: Path


@contextmanager
def running_replica(place: Place, bundle: ServedBundle) -> Iterator[ReadyReplica]:
    """Yield a ready replica of a bundle; raise SlipwayError with its last lines when it does not come up."""
    release = Release("bench", bundle.model, Environment.PRODUCTION, "1", bundle.digest)
    home = SupervisorHome(place.workdir / "replica", release.endpoint)
    shared = claim_kept(0)
    site = Site(home, Slot.LIVE, shared, lambda: None)
    try:
        with asyncio.Runner() as runner:
            replica = RunningReplica(site, "live-1", Deployment(release, bundle.path), restarts=0)
            try:
                ready_s = runner.run(_until_ready(replica))
                record = replica.record
                yield ReadyReplica(shared.port, ready_s, record.pid, record.worker or record.pid, Path(record.socket))
            finally:
                runner.run(replica.end())
    finally:
        shared.close()


def post_rows(port: int, bundle: ServedBundle, count: int) -> None:
    """Post `count` rows over one connection; raise SlipwayError at the first that is not answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        for number in range(count):
            body = json.dumps(bundle.rows[number % len(bundle.rows)])
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            with connection.getresponse() as reply:
                text = reply.read()
                if reply.status != HTTPStatus.OK:
                    raise SlipwayError(f"the replica answered {reply.status}: {text[:200]!r}")
    finally:
        connection.close()


def pss_mb(pid: int) -> float:
    """Return a process's proportional set size in MB (10^6 bytes), which only Linux tells."""
    memory = psutil.Process(pid).memory_full_info()
    if not hasattr(memory, "pss"):
        raise UsageError("this system does not tell proportional set sizes", next="run this benchmark on Linux")
    return float(memory.pss) / MB


async def _until_ready(replica: RunningReplica) -> float:
    deadline = replica.spawned_at + READY_WITHIN_S
    answer = None
    while time.monotonic() < deadline:
        try:
            replica.check_alive()
        except StartError as error:
            raise SlipwayError(f"{error}: {' '.join(error.last_log)}", next="fix what it names") from error
        answer = await replica.ask()
        if answer is not None and answer.status == HTTPStatus.OK:
            return time.monotonic() - replica.spawned_at
        await asyncio.sleep(_ASK_EVERY_S)
    raise SlipwayError(f"the replica was not ready within {READY_WITHIN_S:g} s; its last answer: {answer}")
