"""The one-shot Swarm job of a load run, and the volume that carries its plan in and its results out.

It is a service of one task that is never started again, not Swarm's own mode for jobs: when a service of that mode is
removed, engines leave its task running, and its record for ever.

Plan and rows come by an archive put into a container that is never started and shares the job's volume. A Swarm
config would hold them too, but no more than 500 kB, and it would leave people's rows in the log of every manager. The
results go back the same way. For that the job runs on the node whose engine is asked: no other's files can be
read through it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from pipelines.adapters.docker_engine import DockerEngine
from pipelines.adapters.load_files import PLAN, USER
from pipelines.adapters.swarm_tasks import Task, read_task
from pipelines.errors import TargetUnavailable, Undecided

PLACE = PurePosixPath("/out")
RESULTS = PLACE / "result"
_ROLE = "load"
_LEFT_S = 30.0
_RETRY_S = 0.2
# It is gone already, or something else of the run still holds it.
_LATER = (404, 409)
_MIB = 1024 * 1024
_TMP_MB = 64
# The judge with its arrays, and each worker with its samples.
_BASE_MB, _WORKER_MB = 768, 384
_PIDS = 256

Labels = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run's service; its volume has the same name."""

    name: str
    service_id: str


@dataclass(frozen=True)
class Look:
    """How far a job is: its first task, as Swarm may add others when that is lost, and what it has written."""

    task: Task | None
    log: bytes


class LoadSwarm:
    """The load jobs of one installation on one engine; raises TargetUnavailable when the engine refuses.

    Whoever only removes them needs no `image`.
    """

    def __init__(self, engine: DockerEngine, prefix: str, image: str = "") -> None:
        self._engine = engine
        self._prefix = prefix
        self._image = image

    def start(self, name: str, archive: bytes, *, network: str, workers: int) -> Job:
        """Start a job that finds the unpacked `archive` in its volume and is on `network` only."""
        labels = {"slipway.prefix": self._prefix, "slipway.role": _ROLE, "slipway.load": name}
        with self._engine.api() as api:
            machine = api.info()
            node = machine["Swarm"]["NodeID"]
            if not node:
                raise Undecided("the container engine is in no swarm", next='"make up" says how to make one')
            api.create_volume(name, labels=labels)
            carrier = self._make_carrier(api, name, labels)
            api.put_archive(carrier, str(PLACE), archive)
            cpus = min(workers + 1, machine["NCPU"])
            service = api.create_service(
                _task(self._image, name, labels, network=network, node=node, cpus=cpus, workers=workers),
                name=name,
                labels=labels,
                mode={"Replicated": {"Replicas": 1}},
                # A virtual address needs IPVS, which some kernels lack, and nobody calls a load run.
                endpoint_spec={"Mode": "dnsrr"},
            )
        return Job(name, service["ID"])

    def look(self, job: Job) -> Look:
        """Read how far a job is."""
        with self._engine.api() as api:
            tasks = api.tasks(filters={"service": job.service_id})
            if not tasks:
                return Look(None, b"")
            first = min(tasks, key=lambda task: str(task["CreatedAt"]))
            container = (first["Status"].get("ContainerStatus") or {}).get("ContainerID")
            return Look(read_task(first, ()), _log(api, container) if container else b"")

    @contextmanager
    def results(self, job: Job) -> Iterator[Iterator[bytes]]:
        """Stream the archive of what a job has left so far."""
        with self._engine.api() as api:
            parts, _ = api.get_archive(_carrier(job.name), str(RESULTS))
            yield parts

    def remove(self, name: str | None = None) -> set[str]:
        """Remove all that is left of one run, or of every run; return the names, once they are gone."""
        labels = [f"slipway.load={name}"] if name else [f"slipway.prefix={self._prefix}", f"slipway.role={_ROLE}"]
        removed: set[str] = set()
        deadline = time.monotonic() + _LEFT_S
        while left := self._remove_once(labels):
            removed |= left
            if time.monotonic() > deadline:
                raise TargetUnavailable(
                    f"{', '.join(sorted(left))} could not be removed within {_LEFT_S:g} s",
                    next="the next load run tries again; see what holds it",
                )
            time.sleep(_RETRY_S)
        return removed

    def _make_carrier(self, api: docker.APIClient, name: str, labels: Labels) -> str:
        """Create the container that is never started: it lends the volume to the engine's file transfer."""
        host = api.create_host_config(
            mounts=[{"Type": "volume", "Source": name, "Target": str(PLACE)}],
            cap_drop=["ALL"], read_only=True, network_mode="none", mem_limit=64 * _MIB,
        )  # fmt: skip
        carrier = {"name": _carrier(name), "user": f"{USER}:{USER}", "labels": labels, "host_config": host}
        try:
            made = api.create_container(self._image, **carrier)
        except ImageNotFound:
            if "@" not in self._image:
                raise
            _pull(api, self._image)
            made = api.create_container(self._image, **carrier)
        return str(made["Id"])

    def _remove_once(self, labels: list[str]) -> set[str]:
        """Ask for the removal of everything with all of `labels`; return what was there."""
        filters = {"label": labels}
        with self._engine.api() as api:
            services = [service["ID"] for service in api.services(filters=filters)]
            tasks = [task["ID"] for task in api.tasks(filters=filters)]
            containers = [container["Id"] for container in api.containers(all=True, filters=filters)]
            volumes = [volume["Name"] for volume in api.volumes(filters=filters)["Volumes"] or []]
            for service in services:
                _unless_later(api.remove_service, service)
            for container in containers:
                _unless_later(api.remove_container, container, force=True)
            # A task that has not begun would make the volume anew.
            for volume in [] if services or tasks else volumes:
                _unless_later(api.remove_volume, volume)
        return {*services, *tasks, *containers, *volumes}


def _carrier(name: str) -> str:
    return f"{name}-files"


def _task(image: str, name: str, labels: Labels, *, network: str, node: str, cpus: int, workers: int) -> dict[str, Any]:
    """Describe the job's one task. It is not asked for its health: that would take CPU from what it measures."""
    memory = (_BASE_MB + _WORKER_MB * workers) * _MIB
    return {
        "ContainerSpec": {
            "Image": image,
            "Args": ["--plan", str(PLACE / PLAN), "--out", str(RESULTS)],
            "User": f"{USER}:{USER}",
            "Labels": labels,
            "ReadOnly": True,
            "CapabilityDrop": ["ALL"],
            "StopGracePeriod": 5_000_000_000,
            "Healthcheck": {"Test": ["NONE"]},
            "Mounts": [
                {"Type": "volume", "Source": name, "Target": str(PLACE), "VolumeOptions": {"Labels": labels}},
                {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": _TMP_MB * _MIB}},
            ],
        },
        "Resources": {
            "Limits": {"NanoCPUs": cpus * 1_000_000_000, "MemoryBytes": memory, "Pids": _PIDS},
            "Reservations": {"MemoryBytes": memory},
        },
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"Constraints": [f"node.id=={node}"]},
        "Networks": [{"Target": network}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}},
    }


def _log(api: docker.APIClient, container: str) -> bytes:
    try:
        return bytes(api.logs(container, stdout=True, stderr=True))
    except APIError as error:
        if error.status_code not in _LATER:
            raise
        return b""


def _pull(api: docker.APIClient, image: str) -> None:
    for step in api.pull(image, stream=True, decode=True):
        if "error" in step:
            raise Undecided(f"{image} can't be pulled: {step['error']}", next='run "make up"')


def _unless_later(remove: Any, id: str, **options: Any) -> None:
    try:
        remove(id, **options)
    except APIError as error:
        if error.status_code not in _LATER:
            raise
