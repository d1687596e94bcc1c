"""Runs a confined job as a container of the engine: without network, credentials or rights, on a read-only system.

It is a container and not a task of the Swarm, because only that can be without any network, and it begins sooner. Its
files stream by the engine's file transfer into a volume of its own, which it can't write to: no copy of them fills the
executor's memory. Its answer is what it prints.
"""

import os
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import docker
from docker.errors import APIError

from pipelines.adapters.jobs.files import (
    PROGRAM,
    QUIET,
    broken,
    check_places,
    command,
    end_of,
    too_large,
    too_long,
    too_much,
)
from pipelines.adapters.jobs.inside import TASK
from pipelines.adapters.load.files import USER
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import JobFailed, TargetUnavailable, Undecided
from pipelines.ports import JobBounds, never_ending

LOOK_S = 0.2
_PLACE = "/job"
_ROLE = "job"
_CORE = 1_000_000_000
# Of 1024, which other containers have: what serves, or is measured under load, beside a job goes first.
_SHARES = 512
_MIB = 1024 * 1024
_CHUNK_BYTES = _MIB
_TMP_MB = 16
_LOG_LINES = 20
_KILLED = 137
# What the control image has them as; see infra/images/control.
_PYTHON, _CODE = "/opt/slipway/bin/python", "/srv"
_GONE = (404, 409)


class ContainerJobs:
    """Fills ports.JobRunner for the installation `prefix`, on the engine that this process' own container runs on.

    `image` is the one that the jobs are made of, and this very container's where none is named.
    """

    def __init__(self, engine: DockerEngine, prefix: str, *, image: str = "", program: str = PROGRAM) -> None:
        self._engine = engine
        self._labels = {"slipway.prefix": prefix, "slipway.role": _ROLE}
        self._image = image
        self._program = program

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        """Run the program over copies of `files` and return what it answers; nothing of it is left afterwards."""
        try:
            with self._created(bounds) as (api, container):
                api.put_archive(container, _PLACE, _archive(task, files))
                api.start(container)
                return _await_answer(api, container, bounds, check)
        except TargetUnavailable as error:
            raise Undecided(f"the confined job: {error.message}", next=error.next) from error

    def remove_left(self) -> set[str]:
        """Remove the jobs whose executor died; return their containers."""
        filters = {"label": [f"{name}={value}" for name, value in self._labels.items()]}
        with self._engine.api() as api:
            left = {str(container["Id"]) for container in api.containers(all=True, filters=filters)}
            for container in left:
                _remove(api, container)
        return left

    @contextmanager
    def _created(self, bounds: JobBounds) -> Iterator[tuple[docker.APIClient, str]]:
        with self._engine.api() as api:
            image = self._image or str(api.inspect_container(socket.gethostname())["Image"])
            container = str(api.create_container(image, **self._description(api, bounds))["Id"])
            try:
                yield api, container
            finally:
                _remove(api, container)

    def _description(self, api: docker.APIClient, bounds: JobBounds) -> dict[str, Any]:
        memory = (bounds.memory_mb + _TMP_MB) * _MIB
        # The answer, as the log keeps it.
        log = {"Type": "json-file", "Config": {"max-size": str(2 * bounds.answer_bytes), "max-file": "1"}}
        return {
            "command": command(_PYTHON, self._program, bounds),
            "entrypoint": [],
            "environment": {**QUIET, "PYTHONPATH": _CODE, "HOME": "/tmp"},
            "healthcheck": {"test": ["NONE"]},
            "labels": self._labels,
            "network_disabled": True,
            "user": f"{USER}:{USER}",
            "working_dir": _PLACE,
            "host_config": api.create_host_config(
                cap_drop=["ALL"],
                log_config=log,
                mem_limit=memory,
                memswap_limit=memory,
                mounts=[{"Type": "volume", "Target": _PLACE}],
                nano_cpus=_CORE,
                cpu_shares=_SHARES,
                network_mode="none",
                pids_limit=bounds.processes,
                read_only=True,
                security_opt=["no-new-privileges"],
                tmpfs={"/tmp": f"size={_TMP_MB}m,noexec"},
            ),
        }


def _await_answer(api: docker.APIClient, container: str, bounds: JobBounds, check: Callable[[], None]) -> bytes:
    deadline = time.monotonic() + bounds.wall_s
    while (state := api.inspect_container(container)["State"])["Running"]:
        check()
        if time.monotonic() > deadline:
            raise _failure(api, container, too_long(bounds))
        time.sleep(LOOK_S)
    if code := int(state["ExitCode"]):
        killed = f"was killed after {bounds.wall_s:g} s of a processor" if code == _KILLED else f"ended with {code}"
        how = too_large(bounds) if state["OOMKilled"] else end_of(code, bounds) or killed
        raise _failure(api, container, how)
    answer = bytearray()
    for part in api.logs(container, stdout=True, stderr=False, stream=True, follow=False):
        answer += part
        if len(answer) > bounds.answer_bytes:
            raise _failure(api, container, too_much(bounds))
    return bytes(answer)


def _failure(api: docker.APIClient, container: str, how: str) -> JobFailed:
    log = api.logs(container, stdout=False, stderr=True, tail=_LOG_LINES)
    return broken(how, log.decode(errors="replace"))


def _archive(task: bytes, files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield the archive of a job's files, which root owns and everybody may read, without a copy of any.

    Raises Undecided for a file that can't be read whole.
    """
    check_places(files)
    for folder in sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}):
        yield _head(folder, tarfile.DIRTYPE, 0o755)
    yield _head(TASK, tarfile.REGTYPE, 0o444, len(task)) + _filled(task)
    for name, source in files.items():
        try:
            with source.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                yield _head(name, tarfile.REGTYPE, 0o444, size)
                yield from _content(file, size)
        except OSError as error:
            raise Undecided(f"{source} can't be read for the confined job: {error}", next="try again") from error
    yield bytes(2 * tarfile.BLOCKSIZE)


def _head(name: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf(tarfile.PAX_FORMAT)


def _content(file: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise OSError(f"it ends {left:,} bytes early")
        left -= len(chunk)
        yield chunk
    yield bytes(-size % tarfile.BLOCKSIZE)


def _filled(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _remove(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in _GONE:
            raise
