"""Reads off a service's tasks how far a roll is: Swarm itself knows no deadline and forgets failures."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipelines.adapters.swarm.order import Deployed, ServiceOrder
from pipelines.domain.release import Phase, Slot

RELEASE_VARIABLE = "SLIPWAY_RELEASE"
_ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
# How a task ends that nobody told to end.
_LOST = frozenset({"complete", "failed", "rejected"})
_TO_STAY = frozenset({"ready", "running"})
# What the engine says of a container that it could not start: nothing of it ever ran.
_NEVER_RAN = "starting container failed"
_STOPPED_ROLLS = frozenset({"paused", "rollback_started", "rollback_paused", "rollback_completed"})


@dataclass(frozen=True)
class Task:
    """One container of a service, past or present; `number` is its place among the replicas."""

    id: str
    number: int
    release_id: str | None
    image: str
    index: int
    state: str
    alive: bool
    stays: bool
    reason: str
    exit_code: int
    address: str | None

    @property
    def lost(self) -> bool:
        """Whether it has ended without being told to."""
        return self.state in _LOST

    @property
    def ran(self) -> bool:
        """Whether its container was started."""
        return self.state != "rejected" and not self.reason.startswith(_NEVER_RAN)

    @property
    def unplaced(self) -> bool:
        """Whether the scheduler says that it finds no node for it."""
        return self.state == "pending" and bool(self.reason)

    def runs(self, deployed: Deployed | None) -> bool:
        """Whether it is there for a release (None: for none) on the image recorded with it."""
        if deployed is None:
            return self.release_id is None
        return (self.release_id, self.image) == (deployed.release.id, deployed.image)


def read_task(body: dict[str, Any], lost_nodes: Collection[str]) -> Task:
    """Read a task as the engine's API describes it."""
    status, container = body["Status"], body["Spec"]["ContainerSpec"]
    environ = dict(line.partition("=")[::2] for line in container.get("Env") or [])
    addresses = [each for network in body.get("NetworksAttachments") or [] for each in network.get("Addresses") or []]
    stays = body["DesiredState"] in _TO_STAY
    # A lost node reports nothing any more: what it was told to end has ended as far as anybody can know.
    gone = not stays and body.get("NodeID") in lost_nodes
    return Task(
        id=body["ID"],
        number=body.get("Slot", 0),
        release_id=environ.get(RELEASE_VARIABLE),
        image=container["Image"],
        index=body["Version"]["Index"],
        state=status["State"],
        alive=status["State"] not in _ENDED and not gone,
        stays=stays,
        reason=status.get("Err") or "",
        exit_code=(status.get("ContainerStatus") or {}).get("ExitCode") or 0,
        address=addresses[0].partition("/")[0] if addresses else None,
    )


@dataclass(frozen=True)
class Patience:
    """How long a roll may find no node for a replica, and how long it may take in all, by the replicas.

    They are rolled one after the other: `start_s` is for two or fewer, and each further one has `replica_s` more.
    """

    place_s: float = 30.0
    start_s: float = 50.0
    replica_s: float = 10.0

    def whole_s(self, replicas: int) -> float:
        """Return how long a roll of so many may take."""
        return self.start_s + self.replica_s * max(0, replicas - 2)


@dataclass(frozen=True)
class Waited:
    """How long the slot has been with this order, and its tasks without a node."""

    order_s: float = 0.0
    place_s: float = 0.0


@dataclass(frozen=True)
class Roll:
    """A slot's order and what has become of it.

    `version` is the cluster's log index of the service, `status` and `message` are Swarm's own view.
    """

    slot: Slot
    version: int
    record: ServiceOrder
    replicas: int
    status: str
    message: str
    tasks: tuple[Task, ...]

    @property
    def over(self) -> bool:
        """Whether what was asked for has settled, now or once since: later failures are another matter.

        It has when all replicas run and all others are gone; when that was recorded; or when Swarm has
        completed the roll and every replica was there at least once, which Swarm does not look at.
        """
        running = {task.number for task in self._ours if task.state == "running" and task.stays}
        lingering = any(task.alive and not (task.stays and task.runs(self.record.wanted)) for task in self.tasks)
        if len(running) == self.replicas and not lingering:
            return True
        tried = running | {task.number for task in self._ours if not task.alive and task.index > self.record.since}
        completed = self.status == "completed" and len(tried) >= self.replicas
        return not lingering and (self.record.settled or completed)

    @property
    def lost(self) -> tuple[Task, ...]:
        """The tasks of this order that ended by themselves, in the order of their ends."""
        ended = (task for task in self._ours if task.lost and task.index > self.record.since)
        return tuple(sorted(ended, key=lambda task: task.index))

    @property
    def unready(self) -> tuple[Task, ...]:
        """The tasks of this order that are there and do not run yet."""
        return tuple(task for task in self._ours if task.alive and task.stays and task.state != "running")

    @property
    def own_failure(self) -> bool:
        """Whether a failure is the release's own: a replica of it has ended, or all that are awaited run unready."""
        if self.lost:
            return self.lost[-1].ran
        return bool(self.unready) and all(task.state == "starting" for task in self.unready)

    def serving(self, deployed: Deployed | None) -> tuple[Task, ...]:
        """Return the tasks of a release that are there to stay, the last one for each place."""
        stay = (task for task in self.tasks if task.runs(deployed) and task.alive and task.stays)
        by_number = {task.number: task for task in sorted(stay, key=lambda task: task.index)}
        return tuple(by_number[number] for number in sorted(by_number))

    def judged(self, waited: Waited, patience: Patience) -> tuple[Phase, str | None]:
        """Return the phase, and why when it is FAILED."""
        if self.over:
            return (Phase.SETTLED if self.record.wanted else Phase.EMPTY), None
        failure = self._failure(waited, patience)
        return (Phase.FAILED, failure) if failure else (Phase.STARTING, None)

    def name(self, task: Task) -> str:
        """Return how people know a replica."""
        return f"{self.slot}-{task.number}"

    @property
    def _ours(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.runs(self.record.wanted))

    def _failure(self, waited: Waited, patience: Patience) -> str | None:
        if self.lost:
            return self._end_of(self.lost[-1])
        if self.status in _STOPPED_ROLLS:
            return f"Swarm stopped the roll: {self.message}"
        homeless = [task for task in self.unready if task.unplaced]
        if homeless and waited.place_s > patience.place_s:
            return f"{self.name(homeless[0])} finds no node: {homeless[0].reason}"
        limit_s = patience.whole_s(self.replicas)
        if waited.order_s > limit_s:
            return f"not settled within {limit_s:g} s: {self._standing()}"
        return None

    def _end_of(self, task: Task) -> str:
        if task.state == "rejected":
            return f"{self.name(task)} was rejected: {task.reason}"
        why = f" ({task.reason})" if task.reason else ""
        return f"{self.name(task)} exited with status {task.exit_code} while starting{why}"

    def _standing(self) -> str:
        if self.unready:
            told = (f"{self.name(task)} {task.state} {task.reason}".strip() for task in self.unready)
            return ", ".join(told)
        left = [
            self.name(task) for task in self.tasks if task.alive and not (task.stays and task.runs(self.record.wanted))
        ]
        return f"{', '.join(left)} of the former release not gone" if left else "replicas missing"
