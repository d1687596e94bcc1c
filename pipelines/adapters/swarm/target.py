"""Runs releases as Swarm services that Terraform has provisioned: one for each slot of an endpoint."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus

from pipelines.adapters.images.release_images import ReleaseImages
from pipelines.adapters.sample_pull import pull_from_address
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.order import Deployed, ServiceOrder
from pipelines.adapters.swarm.replica_ask import Ask, ask_directly
from pipelines.adapters.swarm.services import Spec, SwarmServices, with_release
from pipelines.adapters.swarm.tasks import Patience, Roll, Task, Waited
from pipelines.domain.release import Endpoint, Phase, Release, Replica, RunsFrom, Slot, SlotState
from pipelines.errors import SlipwayError, UsageError
from pipelines.ports import HttpReply

Pull = Callable[[str, bytes], bytes | None]

PORT = 8000
_ASKERS = 8
# What the edge was told is told again so often: an edge that was started anew or reloaded knows of nothing.
_TELL_AGAIN_S = 30.0
# What a replica without a release is asked for by.
_NO_DIGEST = "none"


class SwarmTarget:
    """The target of a Swarm, as `pipelines.ports.Target`; every method raises TargetUnavailable without an engine.

    `services` are the slots' services. A slot's URL leads there from its environment's network alone; whoever does
    not stand on it gives another `ask` and `pull` than the defaults. One that `only_looks` changes nothing by what it
    observes, as the executor's does, which tells the edge anew what it has forgotten.
    """

    def __init__(
        self,
        services: SwarmServices,
        images: ReleaseImages,
        edge: EdgeSocket,
        *,
        patience: Patience = Patience(),
        ask: Ask = ask_directly,
        pull: Pull = pull_from_address,
        only_looks: bool = False,
    ) -> None:
        self._services = services
        self._images = images
        self._edge = edge
        self._patience = patience
        self._ask = ask
        self._pull = pull
        self._only_looks = only_looks
        self._clock = _Stopwatch()
        self._told: dict[tuple[Endpoint, Slot], tuple[set[str], float]] = {}
        self._askers = ThreadPoolExecutor(_ASKERS, thread_name_prefix="ask-replica")

    def prepare(self, endpoint: Endpoint, bundle_digest: str) -> None:
        """Make sure that the image registry holds the bundle's image, and that its bytes are the bundle's."""
        self._images.prepare(bundle_digest)

    def discard(self, bundle_digest: str) -> None:
        """Remove the bundle's images from the image registry and from this engine."""
        self._images.discard(bundle_digest)

    def start(self, release: Release, slot: Slot, *, epoch: int) -> None:
        """Tell a slot's service to serve `release`, and return at once."""
        # An edge that can't be told of it would leave its replicas out, and have none when the former ones are gone.
        self._order(release.endpoint, slot, release, epoch, tell_edge=self._tell_edge)

    def observe(self, endpoint: Endpoint, slot: Slot) -> SlotState:
        """Read the states of a slot's tasks, and ask each replica by its own address now."""
        roll = self._services.roll(endpoint, slot)
        phase, failure = roll.judged(self._waited(endpoint, roll), self._patience)
        if not self._only_looks:
            self._try_to_tell_edge(endpoint, slot, *_releases(roll.record, over=roll.over))
        serving = roll.record.wanted if roll.over else roll.record.served
        replicas = self._asked(roll, roll.serving(serving))
        missing = roll.replicas - len(replicas) if roll.over else 0
        idle = phase is Phase.EMPTY and slot is not Slot.LIVE
        return SlotState(
            slot=slot,
            phase=phase,
            release=serving.release if serving else None,
            wanted_id=roll.record.wanted_id,
            url=None if idle else f"http://{self._services.name(endpoint, slot)}:{PORT}",
            replicas=(*replicas, *(_missing(slot, number) for number in range(1, missing + 1))),
            failure=failure,
            last_log=self._last_log(roll, phase),
            own_failure=phase is Phase.FAILED and roll.own_failure,
        )

    def images(self, release: Release) -> RunsFrom | None:
        """Read the label of the live slot's service."""
        image = self._services.roll(release.endpoint, Slot.LIVE).record.image_of(release)
        return RunsFrom(image, self._images.app_of(image, release.bundle_digest)) if image else None

    def pull_samples(self, endpoint: Endpoint, slot: Slot, question: bytes) -> list[bytes]:
        """Ask every task of a slot's service that is alive by its own address, those that drain as well."""
        roll = self._services.roll(endpoint, slot)
        addresses = [f"{task.address}:{PORT}" for task in roll.tasks if task.alive and task.address]
        answers = self._askers.map(lambda address: self._pull(address, question), addresses)
        return [answer for answer in answers if answer is not None]

    def highest_epoch(self, endpoint: Endpoint) -> int:
        """Read the labels of the endpoint's services."""
        return max(self._services.roll(endpoint, slot).record.epoch for slot in Slot)

    def set_traffic_weights(self, endpoint: Endpoint, weights: dict[Slot, int], *, epoch: int) -> None:
        """Share the endpoint's port: all to one slot as 1, or percentages that add up to 100."""
        shares = {slot: weight for slot, weight in weights.items() if weight}
        told = ", ".join(f"{slot} {weight}" for slot, weight in weights.items()) or "nothing"
        if sum(shares.values()) not in (1, 100) or min(shares.values()) < 0:
            raise UsageError(f"a port cannot be shared as {told}", next="give one slot 1, or percentages of 100 in all")
        replicas = {slot: self._ready(endpoint, slot) for slot in shares}
        idle = [slot for slot, count in replicas.items() if not count and slot is not Slot.LIVE]
        if idle:
            raise UsageError(f"{idle[0]} serves nothing and cannot get a share ({told})", next="start a release there")
        self._services.fence(endpoint, epoch)
        loads: dict[str, float] = {slot: weight / max(1, replicas[slot]) for slot, weight in shares.items()}
        self._edge.share(self._services.backend(endpoint), loads)

    def restore(self, endpoint: Endpoint, release: Release | None, *, epoch: int) -> None:
        """Order the recorded release again, or none; Swarm's own rollback is never used, it goes one step only."""
        self._order(endpoint, Slot.LIVE, release, epoch, tell_edge=self._try_to_tell_edge)

    def stop(self, endpoint: Endpoint, slot: Slot, *, epoch: int) -> None:
        """Begin to drain a slot; it is EMPTY when nobody of it is left."""
        self._order(endpoint, slot, None, epoch, tell_edge=self._try_to_tell_edge)

    def _order(
        self, endpoint: Endpoint, slot: Slot, release: Release | None, epoch: int, *, tell_edge: Callable[..., None]
    ) -> None:
        self._services.fence(endpoint, epoch)
        tell_edge(endpoint, slot, release, *_releases(self._services.roll(endpoint, slot).record))

        def decide(roll: Roll, spec: Spec) -> tuple[ServiceOrder, Spec]:
            record = roll.record
            wanted = self._deployed(record, release)
            wanted_spec = with_release(spec, endpoint.environment, slot, wanted, base=self._images.base)
            phase, _ = roll.judged(self._waited(endpoint, roll), self._patience)
            if record.wanted == wanted and wanted_spec == spec and phase is not Phase.FAILED:
                return record, spec
            served = record.wanted if roll.over else record.served
            # What has ended before this order is not of its doing, however late the service was written last.
            since = max([roll.version, *(task.index for task in roll.tasks)])
            return ServiceOrder(wanted, served, epoch, since=since), wanted_spec

        self._services.change(endpoint, slot, epoch, decide)

    def _tell_edge(self, endpoint: Endpoint, slot: Slot, *releases: Release | None) -> None:
        """Tell the edge which releases may answer in a slot, if it was not told so a moment ago."""
        digests = {release.bundle_digest if release else _NO_DIGEST for release in releases}
        told, at = self._told.get((endpoint, slot), (None, 0.0))
        if told != digests or time.monotonic() - at > _TELL_AGAIN_S:
            self._edge.name_wanted(self._services.backend(endpoint), slot, digests)
            self._told[endpoint, slot] = (digests, time.monotonic())

    def _try_to_tell_edge(self, endpoint: Endpoint, slot: Slot, *releases: Release | None) -> None:
        """Tell the edge, or leave that to the next look: neither a look nor the way back depends on the edge."""
        with suppress(SlipwayError):
            self._tell_edge(endpoint, slot, *releases)

    def _deployed(self, record: ServiceOrder, release: Release | None) -> Deployed | None:
        if release is None:
            return None
        # What served before goes on as it was, also when the app's base image is a newer one by now.
        return Deployed(release, record.image_of(release) or self._images.image(release.bundle_digest))

    def _asked(self, roll: Roll, tasks: tuple[Task, ...]) -> list[Replica]:
        answers = self._askers.map(lambda task: self._ask(f"{task.address}:{PORT}") if task.address else None, tasks)
        restarts = [task.number for task in roll.lost]
        return [
            _replica(roll.name(task), answer, restarts.count(task.number))
            for task, answer in zip(tasks, answers, strict=True)
        ]

    def _ready(self, endpoint: Endpoint, slot: Slot) -> int:
        return sum(replica.ready for replica in self.observe(endpoint, slot).replicas)

    def _last_log(self, roll: Roll, phase: Phase) -> tuple[str, ...]:
        told = roll.lost[-1:] or (roll.unready[:1] if phase is Phase.FAILED else ())
        return self._services.last_lines(told[0]) if told else ()

    def _waited(self, endpoint: Endpoint, roll: Roll) -> Waited:
        place = (str(endpoint), roll.slot)
        homeless = next((task.id for task in roll.unready if task.unplaced), "")
        return Waited(
            order_s=self._clock.elapsed_s((*place, "order"), str(roll.record.since)),
            place_s=self._clock.elapsed_s((*place, "place"), homeless) if homeless else 0.0,
        )


class _Stopwatch:
    """Measures how long things have stayed as they are, by this machine's monotonic clock alone."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], tuple[str, float]] = {}

    def elapsed_s(self, what: tuple[str, ...], value: str) -> float:
        """Return the seconds since `what` was first seen with this value."""
        now = time.monotonic()
        if self._seen.get(what, ("", now))[0] != value:
            self._seen[what] = (value, now)
        return now - self._seen.setdefault(what, (value, now))[1]


def _replica(name: str, answer: HttpReply | None, restarts: int) -> Replica:
    body = answer.body if answer else {}
    ready = answer is not None and answer.status == HTTPStatus.OK
    # Tasks that were lost, and workers that this one has replaced since.
    restarts += body.get("restarts", 0)
    return Replica(name, body.get("digest"), body.get("version"), ready, restarts, body.get("pid"))


def _releases(record: ServiceOrder, *, over: bool = False) -> list[Release | None]:
    """Return what may answer by an order: what is wanted and, until that has settled, what served before."""
    deployed = [record.wanted] if over else [record.wanted, record.served]
    return [each.release if each else None for each in deployed]


def _missing(slot: Slot, number: int) -> Replica:
    return Replica(f"{slot}-missing-{number}", digest=None, version=None, ready=False, restarts=0, pid=None)
