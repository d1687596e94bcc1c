"""The installation that faults are injected into: real processes in a home of its own, on a disk that can be filled."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from bench.faults.scenario import NotHeld, expect
from bench.load.load_client import LoadClient
from bench.support.place import ProgressReporter
from bench.support.replicas import PATIENCE_S, Replicas
from pipelines.domain.promotion import PastRelease, rollback_target
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import NoRollbackTarget
from pipelines.packaging.snapshot import read_snapshot
from pipelines.wiring.stores import open_records
from pipelines.wiring.targets import open_target
from tests.e2e.installation import Installation

PRODUCTION = Endpoint("churn-model", Environment.PRODUCTION)
STEPS = tuple(f"K{number}" for number in range(11))
CONTENT_S = 120.0
KEPT_PER_S, NEW_PER_S = 90, 10
_POLL_S = 0.1


class Grounds:
    """An installation with a release in production, and what scenarios do to it and ask of it."""

    def __init__(self, slipway: Installation, disk: Path | None, report_progress: ProgressReporter) -> None:
        self.slipway = slipway
        self.disk = disk
        self.report_progress = report_progress
        self.figures: dict[str, float] = {}
        self.replicas = Replicas(open_target(slipway.settings), PRODUCTION)

    @property
    def url(self) -> str:
        """Production, as clients reach it."""
        return f"http://127.0.0.1:{self.slipway.settings.production_port}"

    @cached_property
    def row(self) -> dict[str, Any]:
        """A row that production answers."""
        snapshot = read_snapshot(self.slipway.tree / "data/snapshots/evaluation.parquet")
        first = snapshot.features.head(1).to_dict(orient="records")[0]
        return {str(name): value for name, value in first.items()}

    def load(self, *, looks: bool) -> LoadClient:
        """Return a client of production that never retries; with `looks`, it uses no connection that was cut."""
        return LoadClient(self.url, self.row, kept_per_s=KEPT_PER_S, new_per_s=NEW_PER_S, looks=looks)

    def serving(self) -> str:
        """Return the version that production answers with."""
        return str(self.slipway.health("production")["version"])

    def await_that(self, reached: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> float:
        """Poll until `reached`; return the seconds it took, or raise NotHeld."""
        begun = time.monotonic()
        while not reached():
            if time.monotonic() - begun > within_s:
                raise NotHeld(f"waited {within_s:g} s in vain for {what}")
            time.sleep(_POLL_S)
        return time.monotonic() - begun

    def promoted(self, asking: "subprocess.Popen[str]", code: int = 0, within_s: float = PATIENCE_S) -> str:
        """Wait for a waiting verb to end with `code`; return all that it said."""
        try:
            printed, told = asking.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            asking.kill()
            raise NotHeld(f"the command did not end within {within_s:g} s") from None
        expect(asking.returncode == code, f"the command ended with {asking.returncode}, not {code}: {told.strip()}")
        return printed + told

    def release(self) -> str:
        """Take one more version to production; return it."""
        version = self.slipway.register()
        staged = self.slipway.decided("deploy-staging", "--version", version)
        expect(staged.returncode == 0, f"v{version} was not staged: {staged.stderr}")
        self.promoted(self.slipway.ask_and_approve(version))
        return version

    def make_way_back(self) -> None:
        """Release one more version where a rollback would have nowhere to go."""
        records = open_records(self.slipway.settings)
        try:
            history = records.find(ReleaseRecord, model=PRODUCTION.model, environment=PRODUCTION.environment)
            rollback_target([PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in history])
        except NoRollbackTarget:
            self.release()
        finally:
            records.close()

    def roll_back(self) -> "subprocess.Popen[str]":
        """Begin a rollback of production."""
        return self.slipway.begin("rollback")

    def broken(self) -> tuple[str, ...]:
        """Wait until the doctor finds nothing; return what it still finds after a while."""
        deadline = time.monotonic() + CONTENT_S
        while True:
            told = self.slipway.read("doctor")
            found = [each for each in told["invariants"] if each.get("measurable", True)]
            wrong = [f"{each['id']}: {each['detail']}" for each in found if each["holds"] is not True]
            wrong += [f"{e['action']} of {e['subject']} was begun and not ended" for e in told["open_intents"]]
            if not wrong or time.monotonic() > deadline:
                return tuple(wrong)
            time.sleep(1.0)

    def is_locked(self) -> bool:
        """Whether somebody keeps others from writing the records or the journal, longer than a transaction takes."""
        for name in ("slipway.db", "workflows.db"):
            with closing(sqlite3.connect(self.slipway.home / name, timeout=1.0, isolation_level=None)) as database:
                try:
                    database.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    return True
        return False

    def end_executor(self) -> None:
        """SIGKILL the executor that `up` started, so that a scenario starts its own."""
        if self.slipway.process("executor") is not None:
            self.slipway.kill("executor")

    @contextmanager
    def executor(self, preload: Mapping[str, str] | None = None, **environ: str) -> Iterator["Executor"]:
        """Run an executor beside `up`, with these settings, for as long as the block takes."""
        executor = Executor(self.slipway, {**environ, **(preload or {})})
        try:
            yield executor
        finally:
            executor.kill()

    def mend(self) -> None:
        """Bring up whatever does not run, as an operator does."""
        self.slipway.done("up")


class Executor:
    """One more executor of an installation, which is frozen, woken and killed by hand."""

    def __init__(self, slipway: Installation, environ: Mapping[str, str]) -> None:
        self.log = slipway.settings.logs / f"executor-{time.monotonic_ns()}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.cli", "executor"],
                cwd=slipway.settings.root,
                env={**slipway.settings.child_environ(slipway.environ), "PYTHONUNBUFFERED": "1", **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def is_ready(self) -> bool:
        """Whether it has taken the leader lease."""
        return "is ready" in self.said()

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped by a signal."""
        return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        return self._process.returncode

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def freeze(self) -> None:
        """Stop it where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL it and what it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
