"""One replica: a gunicorn with one worker on a slot's socket, asked for its readiness on a private socket."""

import asyncio
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pipelines.adapters.local.supervisor.home import ProcessRecord, SupervisorHome
from pipelines.adapters.local.supervisor.identity import (
    GRACE_S,
    MARK,
    birth,
    group_ends,
    kill_group,
    lives,
    mark,
    signal_group,
)
from pipelines.adapters.local.supervisor.logfile import ReplicaLog
from pipelines.adapters.local.supervisor.sockets import SlotSocket
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.documents import parse_json
from pipelines.domain.release import Environment, Replica, Slot

PROJECT_ROOT = Path(__file__).resolve().parents[4]
NO_RELEASE = "no release"
ASK_TIMEOUT_S = 2.0
_ASK_EVERY_S = 1.0
_BOOT_POLL_S = 0.05
_WATCH_POLL_S = 0.1
_BACKLOG = 16
# Twice a container's default, as what is reserved and not used counts too; the largest model starts within it.
MEMORY_BYTES = 1 << 30
_REPLY_LIMIT_BYTES = 65_536
# A replica serves strangers: of the supervisor's environment it gets what running needs, and no credentials.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_OPTIONS = ("SLIPWAY_ACCESS_LOG_EVERY",)


class StartError(Exception):
    """A replica did not come up; `last_log` holds its last lines, `ran` is whether there ever was a process of it."""

    def __init__(self, reason: str, last_log: tuple[str, ...] = (), *, ran: bool = True) -> None:
        super().__init__(reason)
        self.last_log, self.ran = last_log, ran


@dataclass(frozen=True)
class Site:
    """Where the replicas of a slot run; `changed` is called when their record has changed."""

    home: SupervisorHome
    slot: Slot
    shared: SlotSocket
    changed: Callable[[], None]


class Loss(StrEnum):
    """How a replica was lost."""

    EXITED = "exited"
    SILENT = "silent"


@dataclass(frozen=True)
class ReadyReply:
    """What a replica says of itself on `/ready`."""

    status: int
    body: Mapping[str, Any]


class RunningReplica:
    """A replica's processes from spawn to end; `restarts` counts predecessors and workers that were lost."""

    def __init__(self, site: Site, name: str, deployment: Deployment | None, *, restarts: int) -> None:
        home = site.home
        self.name = name
        self.deployment = deployment
        self.restarts = restarts
        self._changed = site.changed
        self.worker: int | None = None
        self.spawned_at = self.heard_at = time.monotonic()
        self.heard = False
        title = deployment.release.id if deployment else "none"
        self.log = ReplicaLog(home.logs_dir, f"{home.endpoint.environment}-{home.endpoint.model}-{site.slot}-{title}")
        self._log_start_bytes = self.log.size_bytes()
        self._socket_path = home.replica_socket_path(secrets.token_hex(4))
        known_by = {MARK: mark(home.record_path, name, self._socket_path)}
        self._popen = self._spawn(site.shared, environ_of(home.endpoint.environment, deployment) | known_by)
        self._born = birth(self._popen.pid)
        self._worker_born: str | None = None

    @property
    def exited(self) -> bool:
        """Whether the master has ended; its worker may not have."""
        return self._popen.poll() is not None

    @property
    def record(self) -> ProcessRecord:
        """What a successor of this supervisor needs to end the replica."""
        return ProcessRecord(
            self.name, self._popen.pid, self._born, self.worker, self._worker_born, str(self._socket_path)
        )

    def last_lines(self) -> tuple[str, ...]:
        """Return the last log lines since this replica was spawned."""
        return self.log.tail(self._log_start_bytes)

    async def ask(self) -> ReadyReply | None:
        """Ask for `/ready` on the private socket; None when no whole answer of a fit size comes in time."""
        answer = await _ask_ready(self._socket_path)
        if answer is not None:
            self._hear(answer)
        return answer

    async def look(self) -> Replica:
        """Ask, and return the answer in the words of the domain."""
        answer = await self.ask()
        return _as_told(self.name, answer, restarts=self.restarts, pid=self.worker or self._popen.pid)

    def check_alive(self) -> None:
        """Raise StartError when the replica has exited."""
        if self.exited:
            status = self._popen.returncode
            raise StartError(f"{self.name} exited with status {status} while starting", self.last_lines())

    async def until_ready(self, within_s: float) -> None:
        """Wait until the replica serves what it was told to; raise StartError when it does not in time."""
        deadline = time.monotonic() + within_s
        answer = None
        while time.monotonic() < deadline:
            self.check_alive()
            answer = await self.ask()
            if answer is not None and self._confirms(answer):
                return
            await asyncio.sleep(_BOOT_POLL_S)
        said = f"last answer {answer.status} {dict(answer.body)}" if answer else "no answer"
        raise StartError(f"{self.name} was not ready within {within_s:g} s ({said})", self.last_lines())

    async def until_lost(self, *, boot_s: float, silence_s: float) -> Loss:
        """Wait until it has died or not answered for `silence_s` (`boot_s` before its first answer)."""
        next_ask = 0.0
        while not self.exited:
            if time.monotonic() >= next_ask:
                await self.ask()
                self.log.cap()
                next_ask = time.monotonic() + (_ASK_EVERY_S if self.heard else _BOOT_POLL_S)
            if time.monotonic() - self.heard_at > (silence_s if self.heard else boot_s):
                return Loss.SILENT
            await asyncio.sleep(_WATCH_POLL_S)
        return Loss.EXITED

    async def end(self) -> None:
        """Drain the replica, and kill what is left of it after the grace."""
        pid = self._popen.pid
        if self.exited:
            # gunicorn's worker does not notice that its master has gone, and would serve for ever.
            signal_group(pid, signal.SIGTERM)
        else:
            self._popen.terminate()
        ended = asyncio.create_task(group_ends(pid, GRACE_S))
        while not ended.done():
            # A reaped master is what makes its group end.
            self._popen.poll()
            await asyncio.sleep(_BOOT_POLL_S)
        if not ended.result():
            await kill_group(pid)
            self._popen.wait()
        # Never earlier: gunicorn's stop fails when its socket's path has gone.
        self._socket_path.unlink(missing_ok=True)

    def _hear(self, answer: ReadyReply) -> None:
        self.heard = True
        self.heard_at = time.monotonic()
        worker = answer.body.get("pid")
        if not isinstance(worker, int) or worker == self.worker:
            return
        if self.worker is not None:
            self.restarts += 1
        self.worker, self._worker_born = worker, birth(worker)
        self._changed()

    def _confirms(self, answer: ReadyReply) -> bool:
        if self.deployment is None:
            return answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.body.get("reason") == NO_RELEASE
        if answer.status != HTTPStatus.OK:
            return False
        release = self.deployment.release
        expected = {"digest": release.bundle_digest, "version": release.version}
        found = {key: answer.body.get(key) for key in expected}
        if found != expected:
            raise StartError(f"{self.name} answers as {found}, expected {expected}", self.last_lines())
        return True

    def _spawn(self, shared: SlotSocket, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        try:
            with socket.socket(socket.AF_UNIX) as private, self.log.open() as log:
                private.bind(str(self._socket_path))
                private.listen(_BACKLOG)
                fds = (shared.fileno(), private.fileno())
                binds = [part for fd in fds for part in ("-b", f"fd://{fd}")]
                gunicorn = [sys.executable, "-m", "gunicorn", "-c", "app/gunicorn.conf.py"]
                process = subprocess.Popen(
                    [*gunicorn, *binds, "app.main:create_app()"],
                    cwd=PROJECT_ROOT,
                    env=environ,
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            # Only Linux bounds another process.
            if hasattr(resource, "prlimit"):
                _bound_memory(process)
            return process
        except OSError as error:
            self._socket_path.unlink(missing_ok=True)
            raise StartError(f"{self.name} cannot be started: {error}", ran=False) from error


async def look_at(orphan: ProcessRecord) -> Replica | None:
    """Ask a replica of a former supervisor; None when it has ended."""
    answer = await _ask_ready(Path(orphan.socket))
    if not lives(orphan):
        return None
    return _as_told(orphan.name, answer, restarts=0, pid=orphan.worker or orphan.pid)


def environ_of(environment: Environment, deployment: Deployment | None) -> dict[str, str]:
    """Return a replica's environment variables."""
    environ = {name: os.environ[name] for name in (*_INHERITED, *_OPTIONS) if name in os.environ}
    environ["SLIPWAY_STAGE"] = environment.stage
    if deployment:
        release = deployment.release
        environ |= {
            "SLIPWAY_BUNDLE_DIR": str(deployment.bundle_dir),
            "SLIPWAY_BUNDLE_DIGEST": release.bundle_digest,
            "SLIPWAY_MODEL": release.model,
            "SLIPWAY_VERSION": release.version,
        }
    return environ


def _bound_memory(process: subprocess.Popen[bytes]) -> None:
    """Bound the data of a process that has just begun, and of each that it starts; end it where that fails."""
    try:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        most = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (most, most))
    except OSError:
        process.kill()
        process.wait()
        raise


def _as_told(name: str, answer: ReadyReply | None, *, restarts: int, pid: int) -> Replica:
    body: Mapping[str, Any] = answer.body if answer else {}
    return Replica(
        name=name,
        digest=body.get("digest"),
        version=body.get("version"),
        ready=answer is not None and answer.status == HTTPStatus.OK,
        restarts=restarts,
        pid=pid if answer else None,
    )


async def _ask_ready(path: Path) -> ReadyReply | None:
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            return await get_ready(path)
    except (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
        return None


async def get_ready(path: Path) -> ReadyReply:
    """Ask on a private socket; raise OSError, EOFError, ValueError or LimitOverrunError for what is no answer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=_REPLY_LIMIT_BYTES)
    try:
        writer.write(b"GET /ready HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        body = parse_json(await _rest(reader))
    finally:
        writer.close()
    if not isinstance(body, dict):
        raise ValueError(f"not an object: {body!r}")
    _, status, *_ = head.split(" ", 2)
    return ReadyReply(int(status), body)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        await reader.readexactly(_REPLY_LIMIT_BYTES + 1)
    except asyncio.IncompleteReadError as ended:
        return ended.partial
    raise ValueError(f"more than {_REPLY_LIMIT_BYTES:,} bytes")
