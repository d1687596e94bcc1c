"""Executors of tests: each with fakes of its own, and records that it may share with others."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from pipelines.domain.records import LeaderLease
from pipelines.ports import Records
from pipelines.releases.machine import born_s
from pipelines.releases.services import Services
from tests.support.world.fakes import (
    FakeBundles,
    FakeJobs,
    FakeLoadRunner,
    FakeModelRegistry,
    FakeProbe,
    FakeTarget,
)
from tests.support.world.records import MODEL, release

LOCKING = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
sys.stdin.readline()
connection.execute("BEGIN IMMEDIATE")
os.kill(os.getpid(), signal.SIGSTOP)
connection.rollback()
"""


@contextmanager
def frozen_with_lock(database: Path, records: Records) -> Iterator[psutil.Process]:
    """Freeze a process that has locked a database in SQLite, and that `records` name as the executor, long silent."""
    command = [sys.executable, "-c", LOCKING, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as started:
        holder = psutil.Process(started.pid)
        at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="milliseconds")
        with records.write() as transaction:
            leader = LeaderLease("executor", "frozen", holder.pid, born_s(holder), at, socket.gethostname())
            transaction.put(leader)
        try:
            assert started.stdin
            started.stdin.write("lock it\n")
            started.stdin.flush()
            deadline = time.monotonic() + 60.0
            while holder.status() != psutil.STATUS_STOPPED:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield holder
        finally:
            started.kill()


def executor(records: Records, name: str, now: Callable[[], str]) -> Services:
    """Return the world of the executor `name`, whose clock is `now`."""
    return Services(
        records=records,
        registry=FakeModelRegistry(),
        target=FakeTarget(replicas=2),
        loads=FakeLoadRunner(),
        jobs=FakeJobs(Path("unused")),
        probe=FakeProbe(release().release, {}),
        bundles=FakeBundles(),
        workdir=Path("unused"),
        executor=name,
        model=MODEL,
        now=now,
    )
