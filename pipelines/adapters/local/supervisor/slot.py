"""Supervises one slot: what it serves goes on until every replica of its next release confirms itself."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from weakref import WeakSet

from pipelines.adapters.local.supervisor.home import ProcessRecord, SlotRecord
from pipelines.adapters.local.supervisor.replica import Loss, RunningReplica, Site, StartError
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.domain.release import Phase, Slot, SlotState

log = logging.getLogger(__name__)
_FIRST_BACKOFF_S = 0.2
_LAST_BACKOFF_S = 5.0
_LOOK_S = 0.1
# A replica that lived this long did not die of what killed its predecessor.
_STEADY_S = 10.0


@dataclass(frozen=True)
class Rules:
    """How many replicas, and how long they may take: to start, and to stay silent afterwards."""

    replicas: int
    start_deadline_s: float
    silence_s: float


class SlotSupervisor:
    """One slot's replicas. `resume` and `start` only begin; `observe` tells how far it is."""

    def __init__(self, site: Site, rules: Rules, record: SlotRecord) -> None:
        self._site = site
        self._rules = rules
        self._state = record
        self._replicas: list[RunningReplica] = []
        self._alive: set[RunningReplica] = set()
        self._retired: WeakSet[RunningReplica] = WeakSet()
        self._tending: list[asyncio.Task[None]] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._roll: asyncio.Task[None] | None = None

    @property
    def record(self) -> SlotRecord:
        """What is to be known after a restart of the supervisor."""
        return self._state

    @property
    def port(self) -> int:
        """The slot's port, which moves only when another process takes an idle slot's."""
        return self._site.shared.port

    @property
    def processes(self) -> list[ProcessRecord]:
        """Every replica that has not ended yet, those starting and draining included."""
        return [replica.record for replica in self._alive]

    def fileno(self) -> int:
        """Return the descriptor of the slot's socket."""
        return self._site.shared.fileno()

    async def until_served(self) -> None:
        """Wait until every replica that is to serve has confirmed itself, however often it takes another one."""
        while not await self._is_served():
            await asyncio.sleep(_LOOK_S)

    async def _is_served(self) -> bool:
        asked = list(self._replicas)
        try:
            for replica in asked:
                await replica.until_ready(self._rules.start_deadline_s)
        except StartError as error:
            # One that was retired meanwhile says nothing of those that serve in its place.
            if asked == self._replicas:
                log.error("%s: what a former supervisor left serves on: %s", self._site.slot, error)
                await asyncio.sleep(_LAST_BACKOFF_S)
            return False
        return asked == self._replicas and self._is_full()

    def resume(self) -> None:
        """Serve what is recorded, and go on with what was being started when the supervisor ended."""
        record = self._state
        replicas: list[RunningReplica] = []
        self._replicas = replicas
        self._tending = [asyncio.create_task(self._serve_again(record.serving, replicas))]
        if record.phase is Phase.STARTING:
            self._roll = asyncio.create_task(self._roll_to(record.wanted, after=None))

    def start(self, wanted: Deployment | None) -> None:
        """Begin to serve a release, or none; a start that is still under way is superseded."""
        state = self._state
        if state.phase is not Phase.FAILED and _id(state.wanted) == _id(wanted):
            return
        if self._roll:
            self._roll.cancel()
        self._put(SlotRecord(serving=state.serving, wanted=wanted, phase=Phase.STARTING))
        self._roll = asyncio.create_task(self._roll_to(wanted, after=self._roll))

    async def observe(self) -> SlotState:
        """Ask every replica now."""
        state, replicas = self._state, list(self._replicas)
        answers = await asyncio.gather(*(replica.look() for replica in replicas))
        idle = state.phase is Phase.EMPTY and self._site.slot is not Slot.LIVE
        return SlotState(
            slot=self._site.slot,
            phase=state.phase if state.phase is Phase.FAILED or self._is_full() else Phase.STARTING,
            release=state.serving.release if state.serving else None,
            wanted_id=_id(state.wanted),
            url=None if idle else self._site.shared.url,
            replicas=tuple(answers),
            failure=state.failure,
            last_log=state.last_log,
            own_failure=state.own_failure,
        )

    async def shut_down(self) -> None:
        """Drain everything; what the slot should serve stays recorded."""
        if self._roll:
            self._roll.cancel()
            await asyncio.wait([self._roll])
        self._retire_serving()
        await self._all_ended()
        self._site.shared.close()

    async def _roll_to(self, wanted: Deployment | None, *, after: asyncio.Task[None] | None) -> None:
        """Bring a slot to a release; what goes wrong is its failure, and is told."""
        if after:
            await asyncio.wait([after])
        try:
            await self._roll_now(wanted)
        except Exception as bug:
            log.exception("%s: %s could not be rolled out", self._site.slot, _id(wanted))
            if _id(self._state.wanted) == _id(wanted):
                self._put(replace(self._state, phase=Phase.FAILED, failure=f"{type(bug).__name__}: {bug}"))

    async def _roll_now(self, wanted: Deployment | None) -> None:
        serving = self._state.serving
        if _id(serving) != _id(wanted) or len(self._replicas) < self._count(wanted):
            try:
                fresh = await self._confirmed(wanted)
            except StartError as error:
                await self._all_ended()
                if _id(self._state.wanted) != _id(wanted):
                    # A cancellation is lost when it meets this failure; whoever asked since has the word.
                    return
                log.error("%s: %s did not start: %s", self._site.slot, _id(wanted), error)
                self._put(SlotRecord(serving, wanted, Phase.FAILED, str(error), error.last_log, error.ran))
                self._refuse_if_idle()
                return
            self._retire_serving()
            self._serve(fresh)
            # Recorded before the old ones have drained: a successor must not go back.
            self._put(SlotRecord(serving=wanted, wanted=wanted, phase=Phase.STARTING))
        await self._all_ended()
        self._refuse_if_idle()
        phase = Phase.SETTLED if wanted else Phase.EMPTY
        self._put(SlotRecord(serving=wanted, wanted=wanted, phase=phase))
        log.info("%s: serves %s", self._site.slot, _id(wanted))

    async def _confirmed(self, wanted: Deployment | None) -> list[RunningReplica]:
        """Start replicas and wait until all confirm themselves, or begin to end them and raise StartError."""
        fresh: list[RunningReplica] = []
        ready = False
        try:
            self._spawn_all(wanted, into=fresh)
            async with asyncio.TaskGroup() as group:
                for replica in fresh:
                    group.create_task(replica.until_ready(self._rules.start_deadline_s))
            for replica in fresh:
                replica.check_alive()
            ready = True
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            if not ready:
                for replica in fresh:
                    self._retire(replica)
        return fresh

    async def _tend(self, replicas: list[RunningReplica], index: int) -> None:
        """Keep one place of the serving release filled until it is retired, whatever goes wrong on the way."""
        delay_s = _FIRST_BACKOFF_S
        while True:
            try:
                delay_s = await self._fill(replicas, index, delay_s)
            except Exception:
                log.exception("%s: a place is not looked after for a moment", self._site.slot)
                await asyncio.sleep(_LAST_BACKOFF_S)

    async def _fill(self, replicas: list[RunningReplica], index: int, delay_s: float) -> float:
        """Wait for the loss of the replica of one place, and fill that; return how long to wait the next time."""
        replica = replicas[index]
        loss = await replica.until_lost(boot_s=self._rules.start_deadline_s, silence_s=self._rules.silence_s)
        log.warning("%s: %s was lost (%s)", self._site.slot, replica.name, loss)
        self._put(replace(self._state, last_log=replica.last_lines()))
        if time.monotonic() - replica.spawned_at > _STEADY_S:
            delay_s = _FIRST_BACKOFF_S
        if loss is Loss.EXITED:
            self._retire(replica)
        await asyncio.sleep(delay_s)
        try:
            replicas[index] = await self._successor(replica, loss)
        except StartError as error:
            log.error("%s: %s could not be replaced: %s", self._site.slot, replica.name, error)
        else:
            if loss is Loss.SILENT:
                self._retire(replica)
        return min(2 * delay_s, _LAST_BACKOFF_S)

    async def _successor(self, replica: RunningReplica, loss: Loss) -> RunningReplica:
        """Start one in the place of a lost replica; a silent one keeps it until this is ready."""
        successor = self._spawn(replica.name, replica.deployment, restarts=replica.restarts + 1)
        ready = loss is Loss.EXITED
        try:
            if not ready:
                await successor.until_ready(self._rules.start_deadline_s)
                ready = True
        finally:
            if not ready:
                self._retire(successor)
        return successor

    async def _serve_again(self, deployment: Deployment | None, replicas: list[RunningReplica]) -> None:
        """Fill and tend the places of what was served; one that can't be filled, as on a full disk, is tried again."""
        async with asyncio.TaskGroup() as group:
            for name in self._names(deployment):
                replicas.append(await self._spawned(name, deployment))
                group.create_task(self._tend(replicas, len(replicas) - 1))

    async def _spawned(self, name: str, deployment: Deployment | None) -> RunningReplica:
        delay_s = _FIRST_BACKOFF_S
        while True:
            try:
                return self._spawn(name, deployment)
            except StartError as error:
                log.error("%s: %s", self._site.slot, error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LAST_BACKOFF_S)

    def _serve(self, replicas: list[RunningReplica]) -> None:
        self._replicas = replicas
        self._tending = [asyncio.create_task(self._tend(replicas, index)) for index in range(len(replicas))]

    def _retire_serving(self) -> None:
        for task in self._tending:
            task.cancel()
        for replica in self._replicas:
            self._retire(replica)
        self._replicas, self._tending = [], []

    def _retire(self, replica: RunningReplica) -> None:
        if replica in self._retired:
            return
        self._retired.add(replica)
        task = asyncio.create_task(self._end(replica))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, replica: RunningReplica) -> None:
        try:
            await replica.end()
        except OSError as error:
            log.error("%s: %s did not end in order: %s", self._site.slot, replica.name, error)
        self._alive.discard(replica)
        self._site.changed()

    async def _all_ended(self) -> None:
        # Waiting, unlike gathering, leaves them to go on when this roll is superseded.
        while self._endings:
            await asyncio.wait(self._endings)

    def _refuse_if_idle(self) -> None:
        if not self._replicas and self._is_full():
            self._site.shared.stop_listening()

    def _spawn_all(self, deployment: Deployment | None, into: list[RunningReplica]) -> None:
        for name in self._names(deployment):
            into.append(self._spawn(name, deployment))

    def _spawn(self, name: str, deployment: Deployment | None, restarts: int = 0) -> RunningReplica:
        replica = RunningReplica(self._site, name, deployment, restarts=restarts)
        self._alive.add(replica)
        self._site.changed()
        return replica

    def _is_full(self) -> bool:
        """Whether no place of what is to serve is waiting for its first replica."""
        return len(self._replicas) >= self._count(self._state.serving)

    def _names(self, deployment: Deployment | None) -> list[str]:
        return [f"{self._site.slot}-{number}" for number in range(1, self._count(deployment) + 1)]

    def _count(self, deployment: Deployment | None) -> int:
        if self._site.slot is Slot.LIVE:
            return self._rules.replicas if deployment else 1
        return 1 if deployment else 0

    def _put(self, state: SlotRecord) -> None:
        self._state = state
        self._site.changed()


def _id(deployment: Deployment | None) -> str | None:
    return deployment.release.id if deployment else None
