"""What an installation has in the engine, found by its label: what serves, what ails, what it wrote, what is left."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from docker.errors import APIError, DockerException, NotFound

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.task_log import read_logs
from pipelines.errors import TargetUnavailable, Undecided

REMOVE_S = 60.0
REST_S = 60.0
TAIL_LINES = 8
_ILL = frozenset({"failed", "rejected"})
# What runs, and what has done its work and is not started again.
_WELL = frozenset({"running", "complete"})
_SERVICE_LABEL = "com.docker.swarm.service.name"
_ROLE_LABEL = "slipway.role"
_SLOT_LABEL = "slipway.slot"
# What an executor makes for its work, and removes at its start when another has left it.
_WORK_ROLES = frozenset({"job", "load"})
# What a task says of itself when its container is there no more.
_ENDED = frozenset({"complete", "failed", "orphaned", "rejected", "remove", "shutdown"})
_IDLE_SLOTS = frozenset({"trial", "baseline"})
_BUSY = frozenset({400, 403, 409, 500})
_STALE = "out of sequence"
_TRIES = 10

Body = dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """Something with the installation's label: when it was made, its role, and how it is removed."""

    id: str
    name: str
    made: float
    role: str
    remove: Callable[[], object]


class EngineParts:
    """The installation `prefix` in one engine."""

    def __init__(self, engine: DockerEngine, prefix: str) -> None:
        self._engine = engine
        self._filters = {"label": f"{PREFIX_LABEL}={prefix}"}
        self._executor = f"{prefix}-executor"

    def served(self) -> dict[str, str]:
        """Return the image of each slot's service."""
        return {
            service["Spec"]["Name"]: service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
            for service in self._services()
            if _SLOT_LABEL in service["Spec"]["Labels"]
        }

    def ended(self) -> set[str]:
        """Return the ids of the tasks that have failed so far."""
        return {str(task["ID"]) for service in self._services() for task in self._tasks(service) if _is_ill(task)}

    def troubles(self, *, besides: Collection[str] = ()) -> dict[str, str]:
        """Return service -> why it does not run, in the scheduler's words; tasks `besides` failed for other reasons."""
        return {name: reason for name, reason, _ in self._ailing(besides)}

    def last_lines(self, lines: int) -> dict[str, list[str]]:
        """Return the last `lines` that each service and each container of its own wrote."""
        tails = {
            str(service["Spec"]["Name"]): read_logs(self._engine, self._tasks(service), lines)
            for service in self._services()
        }
        with self._engine.api() as api:
            for container in api.containers(filters=self._filters):
                told = api.logs(container["Id"], stdout=True, stderr=True, tail=lines)
                tails[container["Names"][0].lstrip("/")] = told.decode(errors="replace").splitlines()
        return tails

    def explain(self, *, besides: Collection[str] = ()) -> str:
        """Return what ails, each with the last lines of its log; tasks `besides` failed for other reasons."""
        told = []
        for name, reason, tasks in self._ailing(besides):
            tail = read_logs(self._engine, tasks, TAIL_LINES)
            told.append("\n".join([f"{name} {reason}", *(f"  {line}" for line in tail)]))
        return "\n".join(told)

    def rest_slots(self) -> None:
        """Leave the slots without a task that Terraform leaves to releases."""
        for service in self._services():
            spec = service["Spec"]
            if spec["Labels"].get(_SLOT_LABEL) in _IDLE_SLOTS and spec["Mode"]["Replicated"]["Replicas"]:
                self._rewrite(spec["Name"], _at_rest)

    def await_rest(self) -> None:
        """Wait until no container of a service is left on this engine: Swarm counts those as gone that still end."""
        names = {service["Spec"]["Name"] for service in self._services()}
        deadline = time.monotonic() + REST_S
        while True:
            with self._engine.api() as api:
                owners = [container["Labels"].get(_SERVICE_LABEL) for container in api.containers()]
            left = sorted(names.intersection(owners))
            if not left:
                return
            if time.monotonic() > deadline:
                raise Undecided(f"{', '.join(left)} did not end within {REST_S:g} s", next='"make down" again')
            time.sleep(0.3)

    def renew_logins(self, registry: str) -> None:
        """Let the slots pull from `registry` by the login that this engine has now; no task is replaced for it."""
        for name, image in self.served().items():
            if image.startswith(f"{registry}/"):
                self._rewrite(name, lambda spec: None)

    def share_image(self, image: str, shared: str) -> None:
        """Let slots without a release run `shared`, which every node can pull, instead of this engine's own `image`."""
        with self._engine.api() as api:
            alone = len(api.nodes()) == 1

        def share(spec: Body) -> None:
            spec["TaskTemplate"]["ContainerSpec"]["Image"] = shared

        for name, served in self.served().items():
            if served == image and not alone:
                self._rewrite(name, share)

    def _rewrite(self, name: str, change: Callable[[Body], None]) -> None:
        """Write a service's spec as it was read, but for what `change` does to it; of one that is gone, nothing."""
        for left in reversed(range(_TRIES)):
            service = next((each for each in self._services() if each["Spec"]["Name"] == name), None)
            if service is None:
                return
            change(service["Spec"])
            try:
                self._write(service)
                return
            except TargetUnavailable as error:
                # Swarm and the executor write too; what was read is then no longer the newest.
                if _STALE not in error.message or not left:
                    raise

    def _write(self, service: Body) -> None:
        """Write a service's spec; the engine adds the login to its registry."""
        spec = service["Spec"]
        with self._engine.api() as api:
            api.update_service(
                service["ID"],
                service["Version"]["Index"],
                task_template=spec["TaskTemplate"],
                name=spec["Name"],
                labels=spec["Labels"],
                mode=spec["Mode"],
                update_config=spec.get("UpdateConfig"),
                rollback_config=spec.get("RollbackConfig"),
                endpoint_spec=spec.get("EndpointSpec"),
            )

    def remove_unknown(self, known: Collection[str], since: datetime) -> list[str]:
        """Remove what was made after `since` and is not among the ids `known`; return the names.

        Volumes stay: making one that exists does no harm, and it may hold something. Load runs and confined jobs stay
        too while an executor is there: they are of its work.
        """
        spared = _WORK_ROLES if self._has_executor() else frozenset()
        removed = []
        for part in self._parts():
            if part.id not in known and part.made >= since.timestamp() and part.role not in spared:
                _until_gone(part.name, part.remove)
                removed.append(part.name)
        return removed

    def names(self) -> list[str]:
        """Return the names of all that carries the label but secrets."""
        return [part.name for part in self._parts()] + self._volumes()

    def remove_all(self) -> list[str]:
        """Remove all that carries the label but secrets, volumes too; return the names."""
        removed = []
        for part in self._parts():
            _until_gone(part.name, part.remove)
            removed.append(part.name)
        volumes = self._volumes()
        with self._engine.api() as api:
            for name in volumes:
                _until_gone(name, partial(api.remove_volume, name))
        return removed + volumes

    def _parts(self) -> Iterator[_Part]:
        """Yield all but secrets and volumes, in the order in which they can be removed."""
        with self._engine.api() as api:
            for service in self._services():
                yield _described(service, api.remove_service)
            for container in api.containers(all=True, filters=self._filters):
                id, name = container["Id"], container["Names"][0].lstrip("/")
                role = container["Labels"].get(_ROLE_LABEL, "")
                remove = partial(api.remove_container, id, force=True, v=True)
                yield _Part(id, name, float(container["Created"]), role, remove)
            for config in api.configs(filters=self._filters):
                yield _described(config, api.remove_config)
            for network in api.networks(filters=self._filters):
                id, made = network["Id"], datetime.fromisoformat(network["Created"]).timestamp()
                yield _Part(id, network["Name"], made, "", partial(api.remove_network, id))

    def _has_executor(self) -> bool:
        """Whether an executor is at work, or may be before what it left is removed."""
        return any(
            task["Status"]["State"] not in _ENDED
            for service in self._services()
            if service["Spec"]["Name"] == self._executor
            for task in self._tasks(service)
        )

    def _volumes(self) -> list[str]:
        with self._engine.api() as api:
            return [str(volume["Name"]) for volume in api.volumes(filters=self._filters)["Volumes"] or []]

    def _services(self) -> list[Body]:
        with self._engine.api() as api:
            found: list[Body] = api.services(filters=self._filters)
        return sorted(found, key=lambda service: str(service["Spec"]["Name"]))

    def _ailing(self, besides: Collection[str]) -> Iterator[tuple[str, str, list[Body]]]:
        """Yield name, trouble and tasks of each service that is to run, or to do its work once, and does not."""
        for service in self._services():
            tasks = sorted(
                (task for task in self._tasks(service) if task["ID"] not in besides),
                key=lambda task: str(task["CreatedAt"]),
            )
            if not tasks or not service["Spec"]["Mode"]["Replicated"]["Replicas"]:
                continue
            newest = tasks[-1]["Status"]
            ill = [task["Status"].get("Err") for task in tasks if _is_ill(task)]
            told = newest.get("Err") or (ill[-1] if ill else "")
            if told and newest["State"] not in _WELL:
                yield str(service["Spec"]["Name"]), f"{newest['State']}: {told}", tasks

    def _tasks(self, service: Body) -> list[Body]:
        """Return the tasks of a service; none where it is gone since it was listed, as while a model is removed."""
        with self._engine.api() as api:
            try:
                found: list[Body] = api.tasks(filters={"service": service["ID"]})
            except NotFound:
                return []
        return found


def _at_rest(spec: Body) -> None:
    spec["Mode"] = {"Replicated": {"Replicas": 0}}


def _is_ill(task: Body) -> bool:
    return task["Status"]["State"] in _ILL


def _described(found: Body, remove: Callable[[str], Any]) -> _Part:
    """Return the part that a service or config is."""
    spec, made = found["Spec"], datetime.fromisoformat(found["CreatedAt"]).timestamp()
    role = spec["Labels"].get(_ROLE_LABEL, "")
    return _Part(found["ID"], spec["Name"], made, role, partial(remove, found["ID"]))


def _until_gone(name: str, remove: Callable[[], object]) -> None:
    """Remove something that may still be in use for a moment."""
    deadline = time.monotonic() + REMOVE_S
    while True:
        try:
            remove()
            return
        except NotFound:
            return
        except APIError as error:
            if error.status_code not in _BUSY or time.monotonic() > deadline:
                raise Undecided(
                    f"{name} can't be removed: {error.explanation}", next="end what uses it, then do it again"
                ) from error
            time.sleep(0.5)
        except (DockerException, OSError) as error:
            raise TargetUnavailable(
                f"{name} can't be removed: {error}", next="mend the engine, then do it again"
            ) from error
