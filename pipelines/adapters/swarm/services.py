"""The Swarm services of the slots: read, and changed only under the newest epoch.

Terraform owns their shape. Of a spec only the image, the release's environment variables and labels and, in a
slot that rests empty, the number of replicas are changed. All else goes back to Swarm exactly as it was read: it
replaces every task whose spec differs in anything.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from docker.errors import APIError

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.order import Deployed, ServiceOrder, with_record
from pipelines.adapters.swarm.task_log import read_task_log
from pipelines.adapters.swarm.tasks import RELEASE_VARIABLE, Roll, Task, read_task
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.errors import LostLease, TargetUnavailable
from pipelines.settings.terraform_outputs import SlotService, StackOutputs

BUNDLE_DIR = "/bundle"
_STAGE = "SLIPWAY_STAGE"
_OURS = (_STAGE, "SLIPWAY_BUNDLE_DIR", "SLIPWAY_BUNDLE_DIGEST", "SLIPWAY_MODEL", "SLIPWAY_VERSION", RELEASE_VARIABLE)
_STALE = "out of sequence"
_TRIES = 40
_RETRY_S = 0.05
_LOG_LINES = 20

Spec = dict[str, Any]
Decide = Callable[[Roll, Spec], tuple[ServiceOrder, Spec]]


@dataclass(frozen=True)
class EndpointServices:
    """Where an endpoint is: the name of each slot's service, and of its backend in the edge."""

    slots: Mapping[Slot, str]
    backend: str


def services_of_stack(stack: StackOutputs, model: str) -> dict[Endpoint, EndpointServices]:
    """Return where the endpoints of an installation are, whose default model is `model`."""
    own = {
        Endpoint(model, environment): EndpointServices(_names(outputs.slots), backend=environment)
        for environment, outputs in stack.environments.items()
    }
    further = {
        Endpoint(name, environment): EndpointServices(_names(place.slots), place.backend)
        for environment, outputs in stack.environments.items()
        for name, place in outputs.models.items()
    }
    return own | further


class SwarmServices:
    """The services of one installation, as Terraform has named them."""

    def __init__(self, engine: DockerEngine, endpoints: Mapping[Endpoint, EndpointServices]) -> None:
        self._engine = engine
        self._endpoints = dict(endpoints)

    def name(self, endpoint: Endpoint, slot: Slot) -> str:
        """Return the name of a slot's service; raise TargetUnavailable for an endpoint that is not of here."""
        return self._of(endpoint).slots[slot]

    def backend(self, endpoint: Endpoint) -> str:
        """Return the name of the edge's backend that an endpoint's port leads to."""
        return self._of(endpoint).backend

    def roll(self, endpoint: Endpoint, slot: Slot) -> Roll:
        """Read how far a slot is."""
        return self._read(endpoint, slot)[0]

    def fence(self, endpoint: Endpoint, epoch: int) -> None:
        """Let no smaller epoch change any slot from now on; raise LostLease when this one is too small.

        Every service learns of it: whoever read one before and writes after is refused by Swarm, as its
        version has changed.
        """

        def note(roll: Roll, spec: Spec) -> tuple[ServiceOrder, Spec]:
            if epoch == roll.record.epoch:
                return roll.record, spec
            return replace(roll.record, epoch=epoch, settled=roll.record.settled or roll.over), spec

        for slot in Slot:
            self.change(endpoint, slot, epoch, note)

    def change(self, endpoint: Endpoint, slot: Slot, epoch: int, decide: Decide) -> None:
        """Write the record and the spec that `decide` returns in place of those it is given, unless they are equal.

        When the service has changed meanwhile, which Swarm does by itself too, all is read and decided again.
        """
        for _ in range(_TRIES):
            roll, service = self._read(endpoint, slot)
            if epoch < roll.record.epoch:
                raise LostLease(
                    f"lost lease, epoch {epoch} < {roll.record.epoch}",
                    next="another executor has taken over; this one stops",
                )
            record, spec = decide(roll, service["Spec"])
            if (record, spec) == (roll.record, service["Spec"]):
                return
            if self._write(service, {**spec, "Labels": with_record(spec.get("Labels") or {}, record)}):
                return
            time.sleep(_RETRY_S)
        raise TargetUnavailable(
            f"{self.name(endpoint, slot)} changes faster than it can be written", next="see who else changes it"
        )

    def last_lines(self, task: Task) -> tuple[str, ...]:
        """Return the last lines that a task wrote; of a log that can't be read, why."""
        try:
            return tuple(read_task_log(self._engine, task.id, _LOG_LINES))
        except TargetUnavailable as error:
            return (f"(its log can't be read: {error.message})",)

    def _of(self, endpoint: Endpoint) -> EndpointServices:
        if endpoint not in self._endpoints:
            known = ", ".join(map(str, self._endpoints)) or "nothing"
            raise TargetUnavailable(
                f"{endpoint} is not of this installation, which has {known}",
                next="name a model and an environment that it has",
            )
        return self._endpoints[endpoint]

    def _read(self, endpoint: Endpoint, slot: Slot) -> tuple[Roll, dict[str, Any]]:
        name = self.name(endpoint, slot)
        with self._engine.api() as api:
            service: dict[str, Any] = api.inspect_service(name)
            tasks = api.tasks(filters={"service": name})
            lost_nodes = {node["ID"] for node in api.nodes() if node["Status"]["State"] == "down"}
        spec, status = service["Spec"], service.get("UpdateStatus") or {}
        roll = Roll(
            slot=slot,
            version=service["Version"]["Index"],
            record=ServiceOrder.from_labels(spec.get("Labels") or {}),
            replicas=spec["Mode"]["Replicated"]["Replicas"],
            status=status.get("State", ""),
            message=status.get("Message", ""),
            tasks=tuple(read_task(task, lost_nodes) for task in tasks if task["ServiceID"] == service["ID"]),
        )
        return roll, service

    def _write(self, service: dict[str, Any], spec: Spec) -> bool:
        """Write a whole spec in place of the version that was read; False when that is no longer the newest."""
        with self._engine.api() as api:
            try:
                # Each part by name: what is not given here would be wiped.
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
            except APIError as error:
                if _STALE not in str(error):
                    raise
                return False
        return True


def _names(slots: Mapping[Slot, SlotService]) -> dict[Slot, str]:
    return {slot: service.name for slot, service in slots.items()}


def with_release(spec: Spec, environment: Environment, slot: Slot, deployed: Deployed | None, *, base: str) -> Spec:
    """Return a spec that serves a release, or none on the image `base`.

    How many replicas `live` has is a matter of its shape; the other slots have one with a release, else none.
    """
    spec = copy.deepcopy(spec)
    container = spec["TaskTemplate"]["ContainerSpec"]
    container["Image"] = deployed.image if deployed else base
    values = {_STAGE: environment.stage}
    if deployed:
        release = deployed.release
        values |= {
            "SLIPWAY_BUNDLE_DIR": BUNDLE_DIR,
            "SLIPWAY_BUNDLE_DIGEST": release.bundle_digest,
            "SLIPWAY_MODEL": release.model,
            "SLIPWAY_VERSION": release.version,
            RELEASE_VARIABLE: release.id,
        }
    others = [line for line in container.get("Env") or [] if line.partition("=")[0] not in _OURS]
    container["Env"] = [*others, *(f"{name}={value}" for name, value in values.items())]
    if slot is not Slot.LIVE:
        spec["Mode"] = {"Replicated": {"Replicas": 1 if deployed else 0}}
    return spec
