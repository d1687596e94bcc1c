"""The parts of a local installation: how each is started, and by what it is seen to be ready."""

import http.client
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

import psutil

from pipelines.adapters.exchange import deadline
from pipelines.adapters.local.code import own_code
from pipelines.adapters.local.supervisor.home import (
    former_record_paths,
    read_record,
    record_path,
    recorded_replicas,
    supervisor_name,
    wire_of,
)
from pipelines.adapters.local.supervisor.identity import marked
from pipelines.adapters.local.supervisor.wire import HANDS_OVER, Command
from pipelines.adapters.local.target import converse
from pipelines.domain.release import REPLICAS, Endpoint, Environment, Slot
from pipelines.settings.settings import Settings

# What decides goes before what serves, so that nothing is begun that can't end.
DECIDING = frozenset({"executor", "api"})
_ANSWER_S = 2.0
# Longer than a supervisor waits for its replicas when it is asked for them.
_OBEY_S = 5.0


@dataclass(frozen=True)
class Part:
    """One process: its command and the code behind it, the port it listens on, and how it shows that it is ready.

    `ready` is asked of a process id. `answers` tells one that is not frozen, where that is less than being ready.
    `records` name the processes that a supervisor may have left behind; the first that exists holds.
    """

    name: str
    command: list[str]
    port: int | None
    port_setting: str
    ready: Callable[[int], bool]
    code: str
    records: tuple[Path, ...] = ()
    answers: Callable[[], bool] | None = None

    @property
    def hands_over(self) -> bool:
        """Whether the process that runs passes its place on to a successor by itself."""
        return any(path.exists() and wire_of(read_record(path)) >= HANDS_OVER for path in self.records[:1])

    @property
    def has_left_replicas(self) -> bool:
        """Whether replicas of a supervisor that has gone still run: they hold its port until its successor comes."""
        record = next((path for path in self.records if path.exists()), None)
        named = recorded_replicas(record) if record else []
        pids = [pid for replica in named for pid in (replica.pid, replica.worker) if pid]
        return any(psutil.pid_exists(pid) for pid in pids) or any(map(marked, self.records[:1]))


def parts_of(settings: Settings, executor_alive: Callable[[int], bool]) -> list[Part]:
    """Return every part, in the order of starting; all models of `settings` have their ports by now."""
    code, library = own_code(settings.root), version("mlflow")
    port = settings.mlflow_port
    mlflow = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--serve-artifacts"),
        *("--backend-store-uri", f"sqlite:///{settings.home / 'mlflow.db'}"),
        *("--artifacts-destination", str(settings.home / "artifacts")),
        *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
    ]
    cli = [sys.executable, "-m", "pipelines.cli"]
    return [
        Part("mlflow", mlflow, port, "MLFLOW", _answers(port), library),
        *(part for model in settings.models for part in supervisors_of(settings, model.name, code)),
        Part("api", [*cli, "api"], settings.api_port, "API", _answers(settings.api_port), code),
        Part("executor", [*cli, "executor"], None, "", executor_alive, code),
    ]


def supervisors_of(settings: Settings, model: str, code: str) -> list[Part]:
    """Return the supervisors of one model, which has its ports by now, to be started from this code."""
    return [_supervisor(settings, settings.endpoint(environment, model), code) for environment in Environment]


def _supervisor(settings: Settings, endpoint: Endpoint, code: str) -> Part:
    port, environment, home = settings.port(endpoint), endpoint.environment, settings.home
    command = [
        *(sys.executable, "-m", "pipelines.adapters.local.supervisor"),
        *("--model", endpoint.model, "--environment", str(environment)),
        *("--home", str(home), "--port", str(port)),
        *("--replicas", str(REPLICAS[environment])),
    ]
    answers, record = _answers(port), record_path(home, endpoint)

    def ready(pid: int) -> bool:
        return _has_succeeded(record, pid) and answers(pid)

    # At the times of those an installation had the default model alone.
    is_default = endpoint == settings.endpoint(environment)
    records = (record, *(former_record_paths(home, environment) if is_default else ()))

    def obeys() -> bool:
        return any(_obeys(path) for path in records if path.exists())

    name = supervisor_name(endpoint)
    return Part(name, command, port, environment.name, ready, code, records, obeys)


def _has_succeeded(record: Path, pid: int) -> bool:
    """Whether a supervisor keeps its record, and nothing of the one before it is left."""
    kept = read_record(record) if record.exists() else {}
    return bool(kept.get("pid") == pid and not kept.get("former"))


def _obeys(record: Path) -> bool:
    """Whether a supervisor answers whoever asks it, whatever becomes of its replicas."""
    request = json.dumps({"command": Command.OBSERVE, "slot": Slot.LIVE}).encode() + b"\n"
    try:
        return bool(converse(read_record(record).get("socket", ""), request, _OBEY_S))
    except (OSError, ValueError):
        return False


def _answers(port: int) -> Callable[[int], bool]:
    """Ask for the health of what listens, on a new connection: a kept one would lead to the process of before."""

    def ready(pid: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        try:
            with deadline(_ANSWER_S) as until:
                connection.connect()
                until.watch(connection.sock)
                connection.request("GET", "/health")
                return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready
