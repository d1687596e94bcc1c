"""Real supervisors for tests: started, killed, and cleaned up with all that they left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipelines.adapters.local.supervisor.home import record_path
from pipelines.adapters.local.supervisor.identity import marked
from pipelines.adapters.local.target import LocalTarget
from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot, SlotState
from pipelines.errors import TargetUnavailable

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    """Return a TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(probe: Callable[[], T], good: Callable[[T], bool], within_s: float = 30) -> T:
    """Poll until `good(probe())`; the failure shows the last value."""
    deadline = time.monotonic() + within_s
    while not good(last := probe()):
        assert time.monotonic() < deadline, f"not within {within_s} s; last: {last}"
        time.sleep(0.05)
    return last


def settled(state: SlotState) -> bool:
    """Whether a roll has ended, and each replica has said what it serves: a busy one may need a second look."""
    answered = all(replica.digest for replica in state.replicas)
    return state.phase is not Phase.STARTING and (answered or state.phase is not Phase.SETTLED or not state.release)


class SupervisorProcess:
    """One supervisor with a home and port of its own, and the target that talks to it."""

    def __init__(
        self, home: Path, *, replicas: int = 1, options: tuple[str, ...] = (), model: str = "toy-model"
    ) -> None:
        self.home = home
        self.endpoint = Endpoint(model, Environment.STAGING)
        self.port = free_port()
        self.bundles: dict[str, Path] = {}
        self.target = LocalTarget(home, self.bundles.__getitem__)
        self.stderr_path = home.with_suffix(f".{model}.log")
        self._command = [sys.executable, "-m", "pipelines.adapters.local.supervisor"]
        self._command += ["--model", self.endpoint.model, "--environment", self.endpoint.environment]
        self._command += [
            "--home",
            str(home),
            "--port",
            str(self.port),
            "--replicas",
            str(replicas),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._before: list[subprocess.Popen[bytes]] = []

    def run_another(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the same command once more, expecting it to give up by itself."""
        command = [*self._command, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)

    def start(self, *options: str) -> None:
        """Start, and wait until the live slot's replicas answer."""
        self.begin(*options)
        eventually(self._look, lambda state: state is not None and all(r.pid for r in state.replicas))

    def begin(self, *options: str) -> None:
        """Start, and wait for nothing."""
        if self._process:
            self._before.append(self._process)
        with open(self.stderr_path, "ab") as log:
            self._process = subprocess.Popen([*self._command, *options], cwd=ROOT, stderr=log, start_new_session=True)

    def succeed(self, *options: str) -> int:
        """Start a successor, wait until nothing of the one before it is left, and return with which code that ended."""
        self.start(*options)
        eventually(self.record, lambda record: not record["former"])
        return self._before[-1].wait(timeout=10)

    def stop(self) -> int:
        """Ask it to drain and return its exit code."""
        assert self._process
        self._process.terminate()
        return self._process.wait(timeout=40)

    def kill(self) -> None:
        """Kill the supervisor alone; its replicas go on."""
        assert self._process
        self._process.kill()
        self._process.wait(timeout=10)

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        if self._process and self._process.poll() is None:
            self.stop()
        for process in self._before:
            process.wait(timeout=10)
        for replica in marked(self._record_path):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(replica.pid, signal.SIGKILL)

    def record(self) -> dict[str, Any]:
        """Return the supervisor's record on disk."""
        return dict(json.loads(self._record_path.read_text()))

    def process_of(self, name: str) -> dict[str, Any]:
        """Return the record of the only process that a replica's name has now."""
        [process] = [process for process in self.record()["processes"] if process["name"] == name]
        return dict(process)

    def forget(self, name: str) -> dict[str, Any]:
        """Take the only process of a replica out of the record, as if it had never been written, and return it."""
        forgotten, record = self.process_of(name), self.record()
        record["processes"].remove(forgotten)
        self._record_path.write_text(json.dumps(record))
        return forgotten

    def live(self) -> SlotState:
        """Observe the live slot."""
        return self.target.observe(self.endpoint, Slot.LIVE)

    def until_live(self, good: Callable[[SlotState], bool], within_s: float = 30) -> SlotState:
        """Observe the live slot until it is as wanted; a supervisor that has just come may not answer yet."""
        state = eventually(self._look, lambda state: state is not None and good(state), within_s)
        assert state is not None
        return state

    def serve(self, release: Release, *, epoch: int = 1) -> SlotState:
        """Start a release in the live slot and wait until all replicas serve it."""
        self.target.start(release, Slot.LIVE, epoch=epoch)
        return self.until_live(lambda state: state.serves(release))

    @property
    def url(self) -> str:
        """Where the live slot is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _record_path(self) -> Path:
        return record_path(self.home, self.endpoint)

    def _look(self) -> SlotState | None:
        assert self._process
        assert self._process.poll() is None, self.stderr_path.read_text()
        try:
            return self.live()
        except TargetUnavailable:
            return None
