"""A whole installation on containers for end-to-end tests: own prefix, own home, free ports, one real engine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL, DockerSecrets
from pipelines.adapters.containers.swarm_installation import SwarmInstallation
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.wiring.docker import engine_url, open_installation
from tests.e2e.installation import Installation
from tests.support.containers.engine import left_of
from tests.support.watching import again_and_again

_WATCH_S = 0.1


class Containers(Installation):
    """Calls `slipway` with TARGET=docker, and looks at what it made by the engine's own interface."""

    def __init__(
        self, directory: Path, engine: docker.DockerClient, *, tree: Path | None = None, **environ: str
    ) -> None:
        self.prefix = f"e2e-{secrets.token_hex(3)}"
        super().__init__(directory, tree=tree, TARGET="docker", SLIPWAY_PREFIX=self.prefix, **environ)
        self._engine = engine
        self._label = {"label": f"{PREFIX_LABEL}={self.prefix}"}

    @property
    def url(self) -> str:
        """Production's service, as clients reach it."""
        return f"http://127.0.0.1:{self.settings.production_port}"

    def plan(self) -> str:
        """Return what Terraform would change now."""
        return self.installation().plan()

    def installation(self) -> SwarmInstallation:
        """Open it as the verbs do."""
        return open_installation(self.settings, self.environ)

    def invariants(self) -> dict[str, bool]:
        """Return what the doctor says of each invariant that can be measured here."""
        found = self.read("doctor")["invariants"]
        return {each["id"]: each["holds"] for each in found if each.get("measurable", True)}

    def running(self, service: str) -> set[str]:
        """Return the ids of the running containers of a service, such as `production-live`."""
        wanted = {"label": f"com.docker.swarm.service.name={self.prefix}-{service}"}
        return {str(each["Id"]) for each in self._engine.api.containers(filters=wanted)}

    def started(self, name: str) -> str:
        """Return when a container of its own, such as `edge`, was started; another one was started later."""
        found = self._engine.api.inspect_container(f"{self.prefix}-{name}")
        return f"{found['Id']} {found['State']['StartedAt']}"

    def image(self, service: str) -> str:
        """Return the image of a service, such as `production-live`."""
        found = self._engine.api.inspect_service(f"{self.prefix}-{service}")
        return str(found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])

    def containers(self) -> list[str]:
        """Return the names of all that runs."""
        listed = self._engine.api.containers()
        return [each["Names"][0] for each in listed if each["Names"][0].startswith(f"/{self.prefix}-")]

    def tasks(self) -> set[str]:
        """Return the ids of all tasks that run and are meant to."""
        services = self._engine.api.services(filters=self._label)
        tasks = [task for each in services for task in self._engine.api.tasks(filters={"service": each["ID"]})]
        states = {str(task["ID"]): (task["Status"]["State"], task["DesiredState"]) for task in tasks}
        return {id for id, state in states.items() if state == ("running", "running")}

    def volumes(self) -> set[str]:
        """Return the names of the volumes that hold its data."""
        return {str(each["Name"]) for each in self._engine.api.volumes(filters=self._label)["Volumes"]}

    def reload_edge(self) -> None:
        """Let the edge take its configuration over again, as `up` does after a change."""
        EdgeSocket(DockerEngine(engine_url(self.environ)), f"{self.prefix}-edge").reload()

    def memory_limit(self, service: str, *, by_hand: int | None = None) -> int:
        """Return the memory that a service may use; set it first past Terraform, as somebody at the engine could."""
        found = self._engine.api.inspect_service(f"{self.prefix}-{service}")
        spec, limits = found["Spec"], found["Spec"]["TaskTemplate"]["Resources"]["Limits"]
        if by_hand:
            limits["MemoryBytes"] = by_hand
            self._engine.api.update_service(
                found["ID"], found["Version"]["Index"], task_template=spec["TaskTemplate"], name=spec["Name"],
                labels=spec["Labels"], mode=spec["Mode"], update_config=spec["UpdateConfig"],
                endpoint_spec=spec["EndpointSpec"],
            )  # fmt: skip
        return int(limits["MemoryBytes"])

    def kill_one(self, service: str) -> None:
        """SIGKILL one running container of a service."""
        self._engine.api.kill(min(self.running(service)))

    @contextmanager
    def newcomers_killed(self, service: str) -> Iterator[None]:
        """Kill every container of a service that starts within the block."""
        before = self.running(service)

        def kill_newcomers() -> None:
            for container in self.running(service) - before:
                try:
                    self._engine.api.kill(container)
                except (NotFound, APIError):
                    continue

        with again_and_again(kill_newcomers, _WATCH_S):
            yield

    def left(self) -> list[str]:
        """Return the names of all in the engine that carries the installation's label."""
        return left_of(self._engine, self.prefix)

    def remove(self) -> None:
        """Destroy it, whatever state it is in."""
        if self.home.exists():
            self.slipway("destroy", "--confirm", "yes")
        engine = DockerEngine(engine_url(self.environ), 120.0)
        EngineParts(engine, self.prefix).remove_all()
        DockerSecrets(engine, self.prefix).remove_others(())
