"""The processes of one installation on this machine: started once, found again, stopped by their id.

A process is ours only if its id and its start time are in the home's record; one of another model is left alone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipelines.adapters.local.code import StartedCode, own_code
from pipelines.adapters.local.mlflow_store import upgrade_mlflow
from pipelines.adapters.local.private_json import write_private
from pipelines.adapters.local.supervisor.home import (
    former_record_paths,
    former_supervisor_names,
    record_path,
    supervisor_name,
    wire_of,
)
from pipelines.adapters.local.supervisor.wire import HANDS_OVER
from pipelines.adapters.local.told_api import ToldApi
from pipelines.domain.release import REPLICAS, Endpoint, Environment
from pipelines.errors import PortTaken, Undecided, UsageError
from pipelines.settings.installation import other_model
from pipelines.settings.settings import Settings

READY_S = 120.0
# Longer than a supervisor takes to drain its replicas.
STOP_S = 30.0
# What does not answer for so long while it runs is frozen.
SILENT_S = 15.0
_DECIDING = frozenset({"executor", "api"})
_FORMER = frozenset(name for environment in Environment for name in former_supervisor_names(environment))


@dataclass(frozen=True)
class Part:
    """One process: its command and the code behind it, the port it listens on, and how it shows that it is ready.

    `records` name the processes that it may have left behind; the first that exists holds.
    """

    name: str
    command: list[str]
    port: int | None
    port_setting: str
    ready: Callable[[], bool]
    code: str
    records: tuple[Path, ...] = ()


class LocalInstallation:
    """Starts, finds and stops the parts of one home.

    `executor_alive` says whether the executor with a process id has lately shown that it lives.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], executor_alive: Callable[[int], bool]) -> None:
        self._settings = settings
        self._environ = settings.child_environ(environ)
        self._record = settings.home / "run" / "processes.json"
        self._api = ToldApi(settings)
        self._code = StartedCode(settings.home)
        self._executor_alive = executor_alive
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def known_id(self) -> str | None:
        """Return the id that the home's API was started with last."""
        return self._api.known_id()

    def up(self, report_progress: Callable[[str], None]) -> None:
        """Start what does not run, or was started by other code, and wait until all is ready.

        Supervisors are replaced without a lost request. Raises OtherModel, PortTaken or Undecided.
        """
        self._refuse_other_model()
        parts = self.parts()
        self._end_former(report_progress)
        self._end_estranged(report_progress)
        self._end_silent(parts, report_progress)
        replaced = self._end_outdated(parts, report_progress)
        running = self.running()
        missing = [part for part in parts if part.name not in running or part.name in replaced]
        for part in missing:
            self._refuse_taken_port(part)
        for part in missing:
            report_progress(f"starting {part.name}")
            if part.name == "mlflow":
                upgrade_mlflow(self._settings.home / "mlflow.db", self._environ, report_progress)
            self._start(part, replaces=part.name in replaced)
        deadline = time.monotonic() + READY_S
        for part in parts:
            self._wait_ready(part, deadline)

    def down(self, report_progress: Callable[[str], None]) -> None:
        """Stop what this home started, the deciding parts first, and nothing else; raise OtherModel."""
        self._refuse_other_model()
        self._stop(report_progress)

    def destroy(self, report_progress: Callable[[str], None]) -> None:
        """Stop everything, whatever its model; all state is in the home."""
        self._stop(report_progress)

    def _stop(self, report_progress: Callable[[str], None]) -> None:
        running = self.running()
        # What decides goes before what serves, so that nothing is begun that can't end.
        for decides in (True, False):
            names = [name for name in running if (name in _DECIDING) is decides]
            for name in names:
                report_progress(f"stopping {name}")
            _end([running[name] for name in names])
        self._record.unlink(missing_ok=True)

    def logs(self, lines: int) -> dict[str, list[str]]:
        """Return the last `lines` of every log file; raise UsageError when there is none."""
        files = sorted(self._settings.logs.glob("*.log"))
        if not files:
            raise UsageError(f"no logs in {self._settings.logs}", next='run "make up" first')
        return {file.stem: file.read_text(errors="replace").splitlines()[-lines:] for file in files}

    def doctor(self) -> dict[str, Any] | None:
        """Leave it to whoever asks: all is on this machine."""
        return None

    def trainer(self) -> dict[str, str]:
        """Return nothing: MLflow asks nobody who he is here."""
        return {}

    def running(self) -> dict[str, psutil.Process]:
        """Return the parts that run, found by process id and start time."""
        found = {}
        for name, (pid, started) in self._recorded().items():
            try:
                process = psutil.Process(pid)
                if abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                    found[name] = process
            except psutil.NoSuchProcess:
                continue
        return found

    def parts(self) -> list[Part]:
        """Return every part, in the order of starting."""
        settings, python = self._settings, sys.executable
        code, library = own_code(settings.root), version("mlflow")
        mlflow = [
            *(python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.mlflow_port)),
            *("--workers", "1", "--serve-artifacts"),
            *("--backend-store-uri", f"sqlite:///{settings.home / 'mlflow.db'}"),
            *("--artifacts-destination", str(settings.home / "artifacts")),
            *("--allowed-hosts", f"127.0.0.1:{settings.mlflow_port},localhost:{settings.mlflow_port}"),
        ]
        cli = [python, "-m", "pipelines.cli"]
        return [
            Part("mlflow", mlflow, settings.mlflow_port, "MLFLOW", _answers(f"{settings.mlflow_url}/health"), library),
            *(self._supervisor(settings.endpoint(environment), code) for environment in Environment),
            Part("api", [*cli, "api"], settings.api_port, "API", _answers(f"{settings.api_url}/health"), code),
            Part("executor", [*cli, "executor"], None, "", self._executor_ready, code),
        ]

    def _supervisor(self, endpoint: Endpoint, code: str) -> Part:
        port, environment = self._settings.port(endpoint), endpoint.environment
        command = [
            *(sys.executable, "-m", "pipelines.adapters.local.supervisor"),
            *("--model", endpoint.model, "--environment", str(environment)),
            *("--home", str(self._settings.home), "--port", str(port)),
            *("--replicas", str(REPLICAS[environment])),
        ]
        home, name = self._settings.home, supervisor_name(endpoint)
        answers, record = _answers(f"http://127.0.0.1:{port}/health"), record_path(home, endpoint)

        def ready() -> bool:
            process = self.running().get(name)
            return process is not None and _has_succeeded(record, process.pid) and answers()

        records = (record, *former_record_paths(home, environment))
        return Part(name, command, port, environment.name, ready, code, records)

    def _executor_ready(self) -> bool:
        process = self.running().get("executor")
        return process is not None and self._executor_alive(process.pid)

    def _refuse_other_model(self) -> None:
        """Raise OtherModel while a supervisor of another model runs, whatever the home's record says."""
        for environment in Environment:
            own, any_model = self._settings.endpoint(environment), f"supervisor-{environment}-"
            for name in self.running():
                if name.startswith(any_model) and name != supervisor_name(own):
                    raise other_model(self._settings, kept=name.removeprefix(any_model), asked=own.model)

    def _end_estranged(self, report_progress: Callable[[str], None]) -> None:
        """End an API that does not know what the home has by now: it would refuse everybody."""
        api = self.running().get("api")
        if api and not self._api.is_told():
            report_progress("the id of the home or its tokens are others by now: starting the API anew")
            _end([api])

    def _end_former(self, report_progress: Callable[[str], None]) -> None:
        """End the supervisors that an earlier Slipway named otherwise, and first what decides and knows those names."""
        running = self.running()
        former = [name for name in running if name in _FORMER]
        deciding = [name for name in running if name in _DECIDING and former]
        for name in (*deciding, *former):
            report_progress(f"stopping {name}, which an earlier Slipway started")
        _end([running[name] for name in deciding])
        _abandon([running[name] for name in former])

    def _end_outdated(self, parts: list[Part], report_progress: Callable[[str], None]) -> set[str]:
        """End what other code than this started, and return the supervisors that pass their place on by themselves."""
        running = self.running()
        outdated = [part for part in parts if part.name in running and not self._code.is_of(part.name, part.code)]
        for part in outdated:
            report_progress(f"{part.name} was started by other code: replacing it")
        supervisors = [part for part in outdated if part.records]
        _end([running[part.name] for part in outdated if part not in supervisors])
        passing = {part.name for part in supervisors if _hands_over(part.records[0])}
        _abandon([running[part.name] for part in supervisors if part.name not in passing])
        return passing

    def _end_silent(self, parts: list[Part], report_progress: Callable[[str], None]) -> None:
        """End what runs but does not answer, such as a frozen process, so that it is started anew."""
        deadline = time.monotonic() + SILENT_S
        for part in parts:
            process = self.running().get(part.name)
            while process is not None and not part.ready():
                if time.monotonic() > deadline:
                    report_progress(f"{part.name} does not answer: starting it anew")
                    os.killpg(process.pid, signal.SIGKILL)
                    psutil.wait_procs([process], timeout=STOP_S)
                    break
                time.sleep(0.1)
                process = self.running().get(part.name)

    def _start(self, part: Part, *, replaces: bool = False) -> None:
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        environ = {
            **self._environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
        }
        if part.name == "api":
            self._api.keep_told()
        log = self._settings.logs / f"{part.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        # Appended to, so that it can be capped while its process writes.
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*part.command, *(["--replace"] if replaces else [])],
                cwd=self._settings.root,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._started[part.name] = process
        recorded = self._recorded()
        recorded[part.name] = (process.pid, psutil.Process(process.pid).create_time())
        write_private(self._record, recorded)
        self._code.keep(part.name, part.code)

    def _wait_ready(self, part: Part, deadline: float) -> None:
        while not part.ready():
            if part.name not in self.running():
                ended = self._started[part.name].wait(STOP_S) if part.name in self._started else None
                refusal = UsageError if ended == UsageError.exit_code else Undecided
                raise refusal(f"{part.name} ended: {self._tail(part)}", next='mend that, then run "make up" again')
            if time.monotonic() > deadline:
                raise Undecided(f"{part.name} is not ready: {self._tail(part)}", next='see "slipway logs"')
            time.sleep(0.1)

    def _tail(self, part: Part) -> str:
        log = self._settings.logs / f"{part.name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""

    def _refuse_taken_port(self, part: Part) -> None:
        # After a kill the replicas of an earlier supervisor hold its port: its successor ends them, or refuses.
        if part.port is None or self._left_by_supervisor(part):
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", part.port))
            except OSError as error:
                raise PortTaken(
                    f"port {part.port} of {part.name} is taken{_holder(part.port)}",
                    next=f"end that process, or set SLIPWAY_PORT_{part.port_setting}",
                ) from error

    def _left_by_supervisor(self, part: Part) -> bool:
        record = next((path for path in part.records if path.exists()), None)
        if record is None:
            return False
        processes = json.loads(record.read_text())["processes"]
        pids = [process[kind] for process in processes for kind in ("pid", "worker") if process[kind]]
        return any(psutil.pid_exists(pid) for pid in pids)

    def _recorded(self) -> dict[str, tuple[int, float]]:
        if not self._record.exists():
            return {}
        return {name: (pid, started) for name, (pid, started) in json.loads(self._record.read_text()).items()}


def _end(processes: list[psutil.Process]) -> None:
    """Ask processes to end and, after STOP_S, end them and what they started."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=STOP_S)
    for process in left:
        os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(left, timeout=STOP_S)


def _abandon(supervisors: list[psutil.Process]) -> None:
    """End supervisors that can't pass their sockets on, and not their replicas: the successor takes those from them."""
    for supervisor in supervisors:
        supervisor.kill()
    psutil.wait_procs(supervisors, timeout=STOP_S)


def _hands_over(record: Path) -> bool:
    return record.exists() and wire_of(json.loads(record.read_text())) >= HANDS_OVER


def _has_succeeded(record: Path, pid: int) -> bool:
    """Whether a supervisor keeps its record, and nothing of the one before it is left."""
    if not record.exists():
        return False
    kept = json.loads(record.read_text())
    return bool(kept["pid"] == pid and not kept.get("former"))


def _answers(url: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    return ready


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            address: Any = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address.port == port and connection.pid:
                return f" by process {connection.pid}"
    except psutil.AccessDenied:
        return ""
    return ""
