"""The one-shot Swarm job of a load run, and the volume that carries its plan in and its results out.

It is a service of one task that is never started again, not Swarm's own mode for jobs: when a service of that mode is
removed, engines leave its task running, and its record for ever.

Plan and rows come by an archive put into a container that is never started and shares the job's volume. A Swarm
config would hold them too, but no more than 500 kB, and it would leave people's rows in the log of every manager. The
results go back the same way. For that the job runs on the node whose engine is asked: no other's files can be
read through it. Several workers are tasks of a second service, which Swarm spreads over its nodes; what they need and
what they measured goes over the load network, between them and the job.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from pipelines.adapters.load.files import USER
from pipelines.adapters.load.tasks import CORE, PLACE, RESULTS, Parts, job_task, worker_task
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.tasks import Task, read_task
from pipelines.errors import TargetUnavailable, Undecided

_ROLE = "load"
_LEFT_S = 30.0
_RETRY_S = 0.2
# It is gone already, or something else of the run still holds it.
_LATER = (404, 409)
_MIB = 1024 * 1024
# A generator and what it measures, or a judge and its only worker. A limit above what the node has is refused.
_CORES = 2

Labels = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run's service, and that of its workers where these are tasks of their own; its volume has the same name."""

    parts: Parts
    service_id: str
    workers_id: str | None = None


@dataclass(frozen=True)
class JobState:
    """How far a job is: its first task, as Swarm may add others when that is lost, what it has written, its workers."""

    task: Task | None
    log: bytes
    workers: tuple[Task, ...] = ()


class LoadSwarm:
    """The load jobs of the installation `prefix` on one engine; raises TargetUnavailable when the engine refuses.

    Other nodes of the swarm pull `image` from `repository`. Runs of different owners leave each other alone; whoever is
    no owner only removes them, all.
    """

    def __init__(
        self, engine: DockerEngine, prefix: str, image: str = "", repository: str = "", *, owner: str = ""
    ) -> None:
        self._engine = engine
        self._owner = owner
        self.prefix = prefix
        self._image = image
        self._repository = repository

    def start(self, name: str, archive: bytes, *, network: str, workers: int) -> Job:
        """Start a job that finds the unpacked `archive` in its volume and is on `network` only.

        It waits for its workers when these are several.
        """
        labels = {**self._labels, "slipway.load": name}
        parts = Parts(name, self._image, labels, network)
        with self._engine.api() as api:
            machine = api.info()
            node = machine["Swarm"]["NodeID"]
            if not node:
                raise Undecided("the container engine is in no swarm", next='"make up" says how to make one')
            api.create_volume(name, labels=labels)
            carrier = self._make_carrier(api, name, labels)
            api.put_archive(carrier, str(PLACE), archive)
            task = job_task(parts, node=node, cores=min(_CORES, machine["NCPU"]), workers=workers)
            return Job(parts, _create(api, name, labels, task, tasks=1))

    def add_workers(self, job: Job, workers: int) -> Job:
        """Start so many workers for a job, wherever Swarm places them."""
        with self._engine.api() as api:
            nodes = api.nodes()
            cores = min(_CORES, *(node["Description"]["Resources"]["NanoCPUs"] // CORE for node in nodes))
        parts = job.parts
        if len(nodes) > 1 and "@" not in parts.image:
            parts = replace(parts, image=self._engine.push(parts.image, self._repository))
        with self._engine.api() as api:
            service = _create(
                api, f"{parts.name}-workers", parts.labels, worker_task(parts, cores=cores), tasks=workers
            )
        return replace(job, workers_id=service)

    def look(self, job: Job) -> JobState:
        """Read how far a job is."""
        with self._engine.api() as api:
            lost_nodes = _lost_nodes(api) if job.workers_id else set()
            found = api.tasks(filters={"service": job.workers_id}) if job.workers_id else []
            workers = tuple(read_task(task, lost_nodes) for task in found)
            tasks = api.tasks(filters={"service": job.service_id})
            if not tasks:
                return JobState(None, b"", workers)
            first = min(tasks, key=lambda task: str(task["CreatedAt"]))
            container = (first["Status"].get("ContainerStatus") or {}).get("ContainerID")
            return JobState(read_task(first, ()), _log(api, container) if container else b"", workers)

    @contextmanager
    def results(self, job: Job) -> Iterator[Iterator[bytes]]:
        """Stream the archive of what a job has left so far."""
        with self._engine.api() as api:
            parts, _ = api.get_archive(_carrier(job.parts.name), str(RESULTS))
            yield parts

    def remove(self, name: str | None = None) -> set[str]:
        """Remove all that is left of one run, or of every run; return the names, once they are gone."""
        labels = [f"slipway.load={name}"] if name else [f"{label}={value}" for label, value in self._labels.items()]
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

    @property
    def _labels(self) -> Labels:
        owner = {"slipway.owner": self._owner} if self._owner else {}
        return {"slipway.prefix": self.prefix, "slipway.role": _ROLE, **owner}

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
            lost_nodes = _lost_nodes(api)
            # A lost node reports nothing any more, not even the end of what ran there.
            tasks = [task["ID"] for task in api.tasks(filters=filters) if task.get("NodeID") not in lost_nodes]
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


def _create(api: docker.APIClient, name: str, labels: Labels, task: dict[str, Any], *, tasks: int) -> str:
    service = api.create_service(
        task,
        name=name,
        labels=labels,
        mode={"Replicated": {"Replicas": tasks}},
        # A virtual address needs IPVS, which some kernels lack.
        endpoint_spec={"Mode": "dnsrr"},
    )
    return str(service["ID"])


def _lost_nodes(api: docker.APIClient) -> set[str]:
    return {node["ID"] for node in api.nodes() if node["Status"]["State"] == "down"}


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
