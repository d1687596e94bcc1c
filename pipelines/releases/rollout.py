"""Putting a release into service: the steps K3 to K9, each safe to repeat, undone as a whole.

The release record is the truth and the alias its projection: the alias moves only after every replica
has confirmed the digest, and until K9 the recorded release is the one to go back to.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState, lifecycle
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Phase, Slot, SlotState
from pipelines.errors import DatabaseUnavailable, DeployFailed, LostLease, RegistryUnavailable, SlipwayError
from pipelines.ports import J, Step, Transaction, never_ending
from pipelines.releases import leases
from pipelines.releases.services import Services


@dataclass(frozen=True)
class Change:
    """What is to serve an environment's live slot, on whose word and on which evidence.

    `holder` is the work that holds the lease (an evaluation, a promotion or a rollback).
    """

    holder: str
    kind: str
    model: str
    environment: Environment
    version: str
    bundle_digest: str
    actor: str
    evidence: dict[str, Any]
    restores: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where it is to serve."""
        return Endpoint(self.model, self.environment)


Finish = Callable[[Transaction, Services, Change, ReleaseRecord, ReleaseRecord | None], None]


def put_in_service(services: Services, change: Change, step: Step, *, finish: Finish) -> str:
    """Carry out K3 to K9 under a lease already held, and return the release's id.

    `finish` records the end of the asking work in the transaction of K9. Raises DeployFailed after the
    recorded release was brought back.
    """
    step("K3 bundle checked", lambda: at_step(services, "K3", lambda: _prepare(services, change)))
    release_id = step("K4 intent recorded", lambda: at_step(services, "K4", lambda: _record_intent(services, change)))
    try:
        step("K5 target updated", lambda: at_step(services, "K5", lambda: _start(services, change, release_id)))
        step("K6 converged", lambda: at_step(services, "K6", lambda: _converge(services, change, release_id)))
        step("K7 every replica verified", lambda: at_step(services, "K7", lambda: _verify(services, release_id)))
        step("K8 alias moved", lambda: at_step(services, "K8", lambda: _project(services, change, release_id)))
        step("K9 recorded", lambda: at_step(services, "K9", lambda: _record(services, change, release_id, finish)))
    except LostLease:
        raise
    except SlipwayError as failure:
        message, hint = failure.message, failure.next
        left = step("undo: recorded release restored", lambda: _undo(services, change, release_id, message))
        if not left["serving"]:
            told = "\n".join([message, *(f"not undone: {trouble}" for trouble in left["troubles"])])
            raise DeployFailed(told, next=hint or 'see "slipway status" and the log lines above') from failure
    step("lifecycle tags written", lambda: _try_lifecycles(services, change))
    return release_id


def wait_settled(
    services: Services, endpoint: Endpoint, slot: Slot, release_id: str, *, check: Callable[[], None] = never_ending
) -> SlotState:
    """Poll a slot until the wanted release settled; raise DeployFailed with the last log lines otherwise."""
    deadline = time.monotonic() + services.timing.converge_s
    while True:
        check()
        state = services.target.observe(endpoint, slot)
        if state.wanted_id == release_id and state.phase is Phase.SETTLED:
            return state
        late = time.monotonic() > deadline
        if state.phase is Phase.FAILED or late:
            waited = f"not ready after {services.timing.converge_s:g} s"
            raise DeployFailed("\n".join([state.failure or waited, *state.last_log]))
        time.sleep(services.timing.poll_s)


def wait_empty(services: Services, endpoint: Endpoint, slot: Slot) -> None:
    """Poll a slot until nothing of it is left; raise DeployFailed at the deadline."""
    deadline = time.monotonic() + services.timing.empty_s
    while services.target.observe(endpoint, slot).phase is not Phase.EMPTY:
        if time.monotonic() > deadline:
            raise DeployFailed(f"the {slot} slot of {endpoint} does not empty", next='see "slipway logs"')
        time.sleep(services.timing.poll_s)


def at_step(services: Services, name: str, action: Callable[[], J]) -> J:
    """Run the action of a step, then let a test stop the process just before the step is recorded."""
    answer = action()
    services.fault(name)
    return answer


def _prepare(services: Services, change: Change) -> None:
    services.target.prepare(change.endpoint, change.bundle_digest)


def _record_intent(services: Services, change: Change) -> str:
    with services.records.write() as transaction:
        begun = transaction.find(ReleaseRecord, change_id=change.holder, state=ReleaseState.STARTING)
        if begun:
            return begun[0].id
        record = ReleaseRecord(
            id=transaction.new_id(ReleaseRecord),
            model=change.model,
            environment=change.environment,
            version=change.version,
            bundle_digest=change.bundle_digest,
            kind=change.kind,
            change_id=change.holder,
            actor=change.actor,
            created_at=services.now(),
            restores=change.restores,
            evidence=change.evidence,
        )
        transaction.add(record)
        _tell(transaction, EventKind.RELEASE_STARTED, record)
        detail = {"environment": change.environment, "version": change.version, "bundle": change.bundle_digest}
        transaction.audit(change.actor, f"release.{change.kind}", "intent", subject=record.id, detail=detail)
        return record.id


def _start(services: Services, change: Change, release_id: str) -> None:
    epoch = leases.confirm(services, change.model, change.environment, change.holder)
    record = services.records.get(ReleaseRecord, release_id)
    services.target.start(record.release, Slot.LIVE, epoch=epoch)


def _converge(services: Services, change: Change, release_id: str) -> None:
    wait_settled(services, change.endpoint, Slot.LIVE, release_id)


def _verify(services: Services, release_id: str) -> None:
    """Ask every replica, and go on asking for a while: a release that crashes after its start is none."""
    record = services.records.get(ReleaseRecord, release_id)
    deadline = time.monotonic() + services.timing.watch_s
    restarts = None
    while True:
        state = services.target.observe(record.release.endpoint, Slot.LIVE)
        now = sum(replica.restarts for replica in state.replicas)
        restarts = now if restarts is None else restarts
        if not state.serves(record.release) or now > restarts:
            seen = ", ".join(f"{r.name}: version {r.version} {r.digest} ready {r.ready}" for r in state.replicas)
            told = f"not every replica goes on serving {record.bundle_digest}: {seen}"
            raise DeployFailed("\n".join([told, *state.last_log]))
        if time.monotonic() >= deadline:
            return
        time.sleep(services.timing.poll_s)


def _project(services: Services, change: Change, release_id: str) -> None:
    """Move the alias to what now serves, going on while the registry is away."""
    epoch = leases.confirm(services, change.model, change.environment, change.holder)
    detail = {"alias": change.environment, "version": change.version, "epoch": epoch}
    with services.records.write() as transaction:
        transaction.audit(change.actor, "alias.move", "intent", subject=release_id, detail=detail)

    def write() -> None:
        leases.confirm(services, change.model, change.environment, change.holder)
        services.registry.move_alias(change.model, change.environment, change.version)

    keep_trying(services, write)
    with services.records.write() as transaction:
        transaction.audit(change.actor, "alias.move", "outcome", subject=release_id, detail=detail)


def write_lifecycles(services: Services, model: str) -> None:
    """Write the `lifecycle` tags of the versions that the latest releases touched, where they differ."""
    history = services.records.find(ReleaseRecord, model=model)
    states = [(record.environment, record.version, record.state) for record in history]
    for version in sorted({record.version for record in history[-6:]}):
        wanted = lifecycle(states, version)
        if services.registry.version(model, version).tags.get("lifecycle") != wanted:
            services.registry.set_tag(model, version, "lifecycle", wanted)


def _try_lifecycles(services: Services, change: Change) -> None:
    """Write the tags now; what fails delays only what people read there, and the executor repeats it."""
    try:
        write_lifecycles(services, change.model)
    except SlipwayError as error:
        services.note(change.holder, "lifecycle tags", f"not written yet: {error.message}")


def keep_trying(services: Services, action: Callable[[], None]) -> None:
    """Repeat `action` while registry or database is unreachable, to the deadline; it must bear repetition."""
    deadline = time.monotonic() + services.timing.registry_s
    while True:
        try:
            return action()
        except (RegistryUnavailable, DatabaseUnavailable):
            if time.monotonic() > deadline:
                raise
            time.sleep(10 * services.timing.poll_s)


def _record(services: Services, change: Change, release_id: str, finish: Finish) -> None:
    keep_trying(services, lambda: _record_outcome(services, change, release_id, finish))


def _record_outcome(services: Services, change: Change, release_id: str, finish: Finish) -> None:
    with services.records.write() as transaction:
        current = transaction.get(ReleaseRecord, release_id)
        if current.state is not ReleaseState.STARTING:
            return
        leases.confirm(services, change.model, change.environment, change.holder, within=transaction)
        at = services.now()
        left = ReleaseState.ROLLED_BACK if change.kind == "rollback" else ReleaseState.SUPERSEDED
        here = {"model": change.model, "environment": change.environment, "state": ReleaseState.SERVING}
        previous = None
        for previous in transaction.find(ReleaseRecord, **here):
            transaction.change(previous, state=left, ended_at=at)
        if previous and change.kind == "rollback":
            _mark_restored_chain(transaction, previous)
        served = transaction.change(current, state=ReleaseState.SERVING, serving_at=at)
        _tell(transaction, EventKind.VERSION_RELEASED, served, replaced=previous.version if previous else None)
        finish(transaction, services, change, served, previous)
        detail = {"environment": change.environment, "version": change.version, "result": "serving"}
        transaction.audit(change.actor, f"release.{change.kind}", "outcome", subject=release_id, detail=detail)
        # Whoever sees this work as done may ask for the next at once.
        leases.free(transaction, services, change.holder)


def _mark_restored_chain(transaction: Transaction, release: ReleaseRecord) -> None:
    """Mark what a rolled-back release had itself restored: the same bundle is no way back."""
    while release.restores:
        release = transaction.get(ReleaseRecord, release.restores)
        transaction.change(release, state=ReleaseState.ROLLED_BACK)


def _undo(services: Services, change: Change, release_id: str, why: str) -> dict[str, Any]:
    """Bring the recorded release and its alias back, and record the failure and what could not be undone.

    Return whether the release serves after all (its record was written, only the answer was lost), and
    the troubles met.
    """
    if services.records.get(ReleaseRecord, release_id).state is ReleaseState.SERVING:
        return {"serving": True, "troubles": []}
    epoch = leases.confirm(services, change.model, change.environment, change.holder)
    recorded = services.serving(change.model, change.environment)
    troubles = []

    def alias_back() -> None:
        wanted = recorded.version if recorded else None
        if services.registry.aliases(change.model).get(change.environment) != wanted:
            services.registry.move_alias(change.model, change.environment, wanted)

    def target_back() -> None:
        services.target.restore(change.endpoint, recorded.release if recorded else None, epoch=epoch)
        if recorded:
            wait_settled(services, change.endpoint, Slot.LIVE, recorded.id)

    for undo in (target_back, lambda: keep_trying(services, alias_back)):
        try:
            undo()
        except LostLease:
            raise
        except SlipwayError as error:
            troubles.append(error.message)
    keep_trying(services, lambda: _record_failure(services, change, release_id, f"{why}; {'; '.join(troubles)}"))
    return {"serving": False, "troubles": troubles}


def record_failure(transaction: Transaction, services: Services, release: ReleaseRecord, why: str) -> None:
    """Record with what else `transaction` writes that a release came to nothing, and tell it."""
    failed = transaction.change(release, state=ReleaseState.FAILED, ended_at=services.now())
    _tell(transaction, EventKind.RELEASE_FAILED, failed, why=why[:800])


def _tell(transaction: Transaction, kind: EventKind, release: ReleaseRecord, **more: str | None) -> None:
    detail = {"environment": release.environment, "version": release.version, "kind": release.kind, **more}
    transaction.emit(kind, subject=release.id, model=release.model, detail=detail)


def _record_failure(services: Services, change: Change, release_id: str, why: str) -> None:
    with services.records.write() as transaction:
        leases.confirm(services, change.model, change.environment, change.holder, within=transaction)
        failed = transaction.get(ReleaseRecord, release_id)
        record_failure(transaction, services, failed, why)
        detail = {"environment": change.environment, "version": change.version, "result": "failed", "why": why[:800]}
        transaction.audit(change.actor, f"release.{change.kind}", "outcome", subject=release_id, detail=detail)
