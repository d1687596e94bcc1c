"""Recovery beside the rounds: work is alive only while a thread works on it, and what stands half-done is undone.

It does not ask what ended the work: a full disk, a database that was away, a bug or a former executor's death. Whatever
asks a target or the registry has a thread of its own, as these may take minutes to answer: no round waits for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import FurtherModel, Lease, ModelState, ReleaseRecord
from pipelines.domain.release import Endpoint
from pipelines.errors import LeaseHeld, SlipwayError
from pipelines.governance.models import removal
from pipelines.ports import WorkflowEngine
from pipelines.releases import leases
from pipelines.releases.late import LateWrites
from pipelines.releases.leader import Succession
from pipelines.releases.leased import KINDS, Leased, end_cut_off, work_of
from pipelines.releases.maintenance import unfinished
from pipelines.releases.mending import is_at_rest, mend_slots, mending
from pipelines.releases.removal import remove_model
from pipelines.releases.services import Services
from pipelines.releases.undo import undo_left

# So long after the end of an attempt what could not be undone is tried again, and so often endpoints at rest are looked
# at: in between the lease is free for whoever asks for something else.
AGAIN_S = 15.0

log = logging.getLogger("slipway.recovery")


class Recovery:
    """Undoes what nobody works on any more, and mends what differs from the record for a reason that is known."""

    def __init__(self, services: Services, engine: WorkflowEngine, succession: Succession) -> None:
        self._services = services
        self._engine = engine
        self._late = LateWrites(services, succession)
        self._threads: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}

    def look(self) -> None:
        """Begin to undo what is half-done without anybody working on it, and free what its holder left held."""
        self._threads = {id: thread for id, thread in self._threads.items() if thread.is_alive()}
        for work in self._cut_off():
            self._begin(work.id, partial(self._end, work))
        for release in self._half_done():
            self._begin(release.id, partial(self._undo, release))
        self._free_orphans()
        for model in self._services.records.find(FurtherModel, state=ModelState.REMOVING):
            self._begin(removal(model.id), partial(remove_model, self._services, model.id))
        for endpoint in self._at_rest():
            self._begin(mending(endpoint), partial(self._mend, endpoint))

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

    def _half_done(self) -> Iterator[ReleaseRecord]:
        """Yield the releases that came to nothing and are not undone, or whose work has ended without them."""
        records = self._services.records
        yield from records.find(ReleaseRecord, state=ReleaseState.UNDOING)
        for release in records.find(ReleaseRecord, state=ReleaseState.STARTING):
            if all(work.state.final for work in work_of(records, release.change_id)):
                yield release

    def _at_rest(self) -> Iterator[Endpoint]:
        # Of a model that was removed nothing is left to be mended.
        models = self._services.models()
        for lease in self._services.records.find(Lease):
            endpoint = leases.endpoint_of(lease)
            if endpoint.model in models and is_at_rest(self._services, endpoint):
                yield endpoint

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

    def _undo(self, release: ReleaseRecord) -> None:
        endpoint = release.release.endpoint
        with leases.holding(self._services, endpoint, release.id):
            troubles = undo_left(self._services, endpoint, release.id)
        _tell(release.id, troubles)

    def _mend(self, endpoint: Endpoint) -> None:
        try:
            if self._late.arrived(endpoint):
                self._late.put_right(endpoint, mending(endpoint))
        finally:
            # What serves does not wait for a registry that is away.
            _tell(str(endpoint), mend_slots(self._services, endpoint))

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
                _tell(id, [error.message])
            except Exception:
                log.exception("a bug while %s was undone", id)
            finally:
                # From its end: an attempt may take longer than that, and would leave the lease to nobody else.
                self._not_before[id] = time.monotonic() + AGAIN_S

        self._threads[id] = threading.Thread(target=run, name=f"undo-{id}", daemon=True)
        self._threads[id].start()


def _tell(what: str, troubles: list[str]) -> None:
    for trouble in troubles:
        log.error("%s is not undone yet: %s", what, trouble)
