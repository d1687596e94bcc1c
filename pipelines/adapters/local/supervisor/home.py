"""What a supervisor leaves on disk: its lock, its socket and the record from which a successor goes on."""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipelines.adapters.local.supervisor.wire import WIRE_VERSION, Deployment
from pipelines.disk import write_whole
from pipelines.domain.release import Endpoint, Environment, Phase, Slot
from pipelines.errors import UsageError

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
SOCKET_PATH_LIMIT_BYTES = 103
_LOCK_POLL_S = 0.02
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class SlotRecord:
    """What a slot serves and what it was last told to serve."""

    serving: Deployment | None = None
    wanted: Deployment | None = None
    phase: Phase = Phase.EMPTY
    failure: str | None = None
    last_log: tuple[str, ...] = ()
    own_failure: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the form on disk."""
        return {
            "serving": self.serving.as_dict() if self.serving else None,
            "wanted": self.wanted.as_dict() if self.wanted else None,
            "phase": self.phase,
            "failure": self.failure,
            "last_log": list(self.last_log),
            "own_failure": self.own_failure,
        }

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "SlotRecord":
        """Rebuild what `as_dict` wrote."""
        return cls(
            serving=Deployment.from_dict(body["serving"]) if body["serving"] else None,
            wanted=Deployment.from_dict(body["wanted"]) if body["wanted"] else None,
            phase=Phase(body["phase"]),
            failure=body["failure"],
            last_log=tuple(body["last_log"]),
            # An earlier Slipway wrote none.
            own_failure=body.get("own_failure", False),
        )


@dataclass(frozen=True)
class ProcessRecord:
    """A replica's master (which leads its process group), its worker, and its private socket.

    `born` and `worker_born` tell the process from a later one with the same pid.
    """

    name: str
    pid: int
    born: str | None
    worker: int | None
    worker_born: str | None
    socket: str

    @property
    def slot(self) -> Slot:
        """Where it serves, which its name begins with."""
        return Slot(self.name.rpartition("-")[0])


@dataclass
class Record:
    """All that outlives a supervisor; `epoch` is the highest fencing number seen, `wire` the version that it speaks.

    `former` are the replicas of the supervisor before, which serve until those in `processes` do.
    """

    wire: int = WIRE_VERSION
    pid: int = 0
    socket: str = ""
    epoch: int = 0
    ports: dict[Slot, int] = field(default_factory=dict)
    slots: dict[Slot, SlotRecord] = field(default_factory=dict)
    processes: list[ProcessRecord] = field(default_factory=list)
    former: list[ProcessRecord] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the form on disk."""
        return {
            "wire": self.wire,
            "pid": self.pid,
            "socket": self.socket,
            "epoch": self.epoch,
            "ports": self.ports,
            "slots": {slot: record.as_dict() for slot, record in self.slots.items()},
            "processes": [asdict(process) for process in self.processes],
            "former": [asdict(process) for process in self.former],
        }

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "Record":
        """Rebuild what `as_dict` wrote."""
        return cls(
            wire=wire_of(body),
            pid=body["pid"],
            socket=body["socket"],
            epoch=body["epoch"],
            ports={Slot(slot): port for slot, port in body["ports"].items()},
            slots={Slot(slot): SlotRecord.from_dict(record) for slot, record in body["slots"].items()},
            processes=[ProcessRecord(**process) for process in body["processes"]],
            former=[ProcessRecord(**process) for process in body.get("former", [])],
        )


def wire_of(record: dict[str, Any]) -> int:
    """Return the version that the supervisor of a record speaks; the first one did not say it."""
    return int(record.get("wire", 1))


def read_record(path: Path) -> dict[str, Any]:
    """Return the form on disk of a record of any version; raise UsageError when it cannot be read."""
    try:
        body = json.loads(path.read_bytes())
        wire_of(body)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return dict(body)


def recorded_replicas(path: Path) -> list[ProcessRecord]:
    """Return every replica that a record of any version names; raise UsageError when it cannot be read."""
    body = read_record(path)
    try:
        named = [*body.get("processes", []), *body.get("former", [])]
        return [ProcessRecord(**{each.name: process[each.name] for each in fields(ProcessRecord)}) for process in named]
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def live_port(path: Path) -> int | None:
    """Return the port that a record names for the live slot, None without one; raise UsageError for no record."""
    named = read_record(path).get("ports") or {} if path.exists() else {}
    port = named.get(Slot.LIVE)
    return port if isinstance(port, int) and port > 0 else None


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"the supervisor's record {path} is not readable: {error!r}",
        next='move it away, then "make up": the executor has it serve again what is recorded',
    )


def supervisor_name(endpoint: Endpoint) -> str:
    """Return how the supervisor of an endpoint is known: its record, its log and its process."""
    return f"supervisor-{endpoint.environment}-{endpoint.model}"


def record_path(home: Path, endpoint: Endpoint) -> Path:
    """Return where the supervisor of an endpoint leaves its record."""
    return home / "run" / f"{supervisor_name(endpoint)}.json"


def former_record_paths(home: Path, environment: Environment) -> list[Path]:
    """Return where it left its record at the times when an environment had one model only, the latest first."""
    return [home / "run" / f"{name}.json" for name in former_supervisor_names(environment)]


def former_supervisor_names(environment: Environment) -> list[str]:
    """Return how the supervisor of an environment was known at those times."""
    return [f"supervisor-{environment}", f"keeper-{environment}"]


def refuse_newer(record: Path, wire: int) -> None:
    """Raise UsageError for the record of a supervisor of a newer Slipway."""
    if wire > WIRE_VERSION:
        raise UsageError(
            f"{record} is of a supervisor that speaks version {wire}, this Slipway speaks version {WIRE_VERSION}",
            next="use the newer Slipway that started it",
        )


class SupervisorHome:
    """The folders of one supervisor under Slipway's home, readable by their owner only."""

    def __init__(self, home: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.run_dir = home.resolve() / "run"
        self.logs_dir = home.resolve() / "logs"
        for directory in (self.run_dir, self.logs_dir):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        self.record_path = record_path(home.resolve(), endpoint)
        self.socket_path = self._short_socket_path()
        self._lock_fd = -1

    def replica_socket_path(self, unique: str) -> Path:
        """Return a path for a replica's private socket, as short as the control socket's."""
        return self.socket_path.with_name(f"{self.endpoint.environment}-{unique}.sock")

    def lock(self, within_s: float = 0.0) -> None:
        """Become the only supervisor here, or raise UsageError naming the other; any death frees the lock."""
        path = self.record_path.with_suffix(".lock")
        self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + within_s
        while not self._try_lock():
            if time.monotonic() >= deadline:
                holder = path.read_text().strip() or "unknown"
                raise UsageError(
                    f"a supervisor of {self.endpoint} already runs in {self.run_dir.parent} (pid {holder})",
                    next='it goes on serving; "make up" replaces one of an earlier Slipway',
                )
            time.sleep(_LOCK_POLL_S)
        # This only tells who has it: a full disk keeps nobody from serving.
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def load(self) -> Record:
        """Return the record, empty at the very first start; raise UsageError when it cannot be read, or is newer."""
        for former in former_record_paths(self.run_dir.parent, self.endpoint.environment):
            if former.exists() and not self.record_path.exists() and self._may_be_own(former):
                former.rename(self.record_path)
        if not self.record_path.exists():
            return Record()
        try:
            body = json.loads(self.record_path.read_bytes())
            refuse_newer(self.record_path, wire_of(body))
            return Record.from_dict(body)
        except _UNREADABLE as error:
            raise _unreadable(self.record_path, error) from error

    def _may_be_own(self, former: Path) -> bool:
        """Whether a record of the times of one model names no release of another: a further model takes none over."""
        try:
            slots = read_record(former)["slots"].values()
            told = [slot[part] for slot in slots for part in ("serving", "wanted") if slot[part]]
            return all(deployment["release"]["model"] == self.endpoint.model for deployment in told)
        except (UsageError, *_UNREADABLE):
            # Whoever reads it next says what is wrong with it.
            return True

    def save(self, record: Record) -> None:
        """Write the record so that a reader, also one after a power cut, finds the old or the new one."""
        write_whole(self.record_path, json.dumps(record.as_dict(), indent=1))

    def _short_socket_path(self) -> Path:
        usual = self.record_path.with_suffix(".sock")
        if len(os.fsencode(usual)) <= SOCKET_PATH_LIMIT_BYTES:
            return usual
        name = hashlib.sha256(os.fsencode(self.run_dir / self.endpoint.model)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"slipway-{os.getuid()}-{name}"
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        # The temporary directory is everyone's: a folder planted there would let its owner command us.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UsageError(
                f"{directory}, needed for sockets, is not a private folder of this user",
                next="remove it, or choose a shorter SLIPWAY_HOME",
            )
        return directory / f"supervisor-{self.endpoint.environment}.sock"
