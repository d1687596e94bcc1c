"""Recovery beside the rounds: work is alive only while a thread works on it, and what stands half-done is undone.

It does not ask what ended the work: a full disk, a database that was away, a bug or a former executor's death. Each
undoing has a thread of its own, as a slot may take minutes to come back.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Lease, ReleaseRecord
from pipelines.domain.release import Endpoint
from pipelines.errors import LeaseHeld, RegistryUnavailable, SlipwayError
from pipelines.governance.standing import half_undone
from pipelines.ports import WorkflowEngine
from pipelines.releases import leases
from pipelines.releases.leased import KINDS, Leased, end_cut_off, work_of
from pipelines.releases.maintenance import unfinished
from pipelines.releases.services import Services
from pipelines.releases.undo import bring_back, undo_left

# What could not be undone is tried again so much later.
AGAIN_S = 15.0

log = logging.getLogger("slipway.recovery")


class Recovery:
    """Undoes what nobody works on any more.

    `taken_over` are the leases of a former executor: while that one may still wake, an alias that its work may have
    moved is looked at too.
    """

    def __init__(self, services: Services, engine: WorkflowEngine, taken_over: Iterable[Lease] = ()) -> None:
        self._services = services
        self._engine = engine
        self._taken_over = {lease.id: lease for lease in taken_over}
        self._threads: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}

    def look(self) -> None:
        """Begin to undo what is half-done without anybody working on it, and free what its holder left held."""
        self._threads = {id: thread for id, thread in self._threads.items() if thread.is_alive()}
        for work in self._cut_off():
            self._begin(work.id, partial(self._end, work))
        for endpoint, holder in self._half_undone():
            self._begin(holder, partial(self._undo, endpoint, holder))
        self._free_orphans()

    def wait(self) -> None:
        """Wait until what was begun has ended."""
        for thread in list(self._threads.values()):
            thread.join()

    def _works_on(self, id: str) -> bool:
        return self._engine.works_on(id) or (id in self._threads and self._threads[id].is_alive())

    def _cut_off(self) -> Iterator[Leased]:
        """Yield the work that is recorded as running, or holds a lease, and that no thread works on."""
        records = self._services.records
        running = [work for kind in KINDS for work in records.find(kind, state=RunState.RUNNING)]
        holding = [work for lease in records.find(Lease) if lease.holder for work in work_of(records, lease.holder)]
        for kind, id in dict.fromkeys((type(work), work.id) for work in (*running, *holding)):
            if self._works_on(id):
                continue
            # Read after its thread was seen to have ended: it may have ended as it should.
            work = records.get(kind, id)
            if not work.state.final:
                yield work

    def _half_undone(self) -> Iterator[tuple[Endpoint, str]]:
        """Yield what came to nothing and is not undone, and what a former executor may have changed too late."""
        for release in self._services.records.find(ReleaseRecord, state=ReleaseState.UNDOING):
            yield Endpoint(release.model, release.environment), release.change_id
        for lease in self._taken_over.values():
            if lease.holder and self._came_too_late(lease):
                yield leases.endpoint_of(lease), lease.holder

    def _came_too_late(self, taken: Lease) -> bool:
        """Whether the alias says what only the former holder of a lease may have written, and nobody changes it."""
        services, endpoint = self._services, leases.endpoint_of(taken)
        if any(lease.holder for lease in services.records.find(Lease, id=taken.id)):
            return False
        history = services.records.find(ReleaseRecord, model=endpoint.model, environment=endpoint.environment)
        places = [place for place, release in enumerate(history) if release.change_id == taken.holder]
        # Its own version, or in undoing that of the release before.
        written = {r.version for place in places for r in history[: place + 1]}
        recorded = services.serving(endpoint.model, endpoint.environment)
        try:
            aliased = services.registry.aliases(endpoint.model).get(endpoint.environment) if written else None
        except RegistryUnavailable:
            return False
        return aliased in written - {recorded.version if recorded else None}

    def _free_orphans(self) -> None:
        """Give back the leases whose holder has ended, or is not known."""
        services = self._services
        keep = {change.id for change in unfinished(services.records)}
        for lease in services.records.find(Lease):
            holder = lease.holder
            if holder is None or holder in keep or self._works_on(holder):
                continue
            if any(not work.state.final for work in work_of(services.records, holder)):
                continue
            with services.records.write() as transaction:
                leases.free(transaction, services, holder)
                transaction.audit("executor", "lease.free", "outcome", subject=holder, detail={"lease": lease.id})

    def _end(self, work: Leased) -> None:
        # First, or a later executor would go on with it.
        self._engine.abandon(work.id)
        self._services.note(work.id, "cut off", "no thread works on it any more: undoing what it left half-done")
        end_cut_off(self._services, work)

    def _undo(self, endpoint: Endpoint, holder: str) -> None:
        services = self._services
        leases.acquire(services, endpoint.model, endpoint.environment, holder)
        try:
            undo = undo_left if half_undone(services.records, endpoint) else bring_back
            troubles = undo(services, endpoint, holder)
        finally:
            leases.give_back(services, holder)
        for trouble in troubles:
            log.error("%s of %s is not undone yet: %s", endpoint, holder, trouble)

    def _begin(self, id: str, undo: Callable[[], None]) -> None:
        if id in self._threads or time.monotonic() < self._not_before.get(id, 0.0):
            return

        def run() -> None:
            try:
                undo()
            except LeaseHeld:
                # Whoever holds it has undone this first.
                return
            except SlipwayError as error:
                log.error("%s can't be undone yet: %s", id, error.message)
            except Exception:
                log.exception("a bug while %s was undone", id)

        self._not_before[id] = time.monotonic() + AGAIN_S
        self._threads[id] = threading.Thread(target=run, name=f"undo-{id}", daemon=True)
        self._threads[id].start()
