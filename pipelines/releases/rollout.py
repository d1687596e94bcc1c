"""Putting a release into service: the steps K3 to K9, each safe to repeat, undone as a whole.

The release record is the truth and the alias its projection: the alias moves only after every replica
has confirmed the digest, and until K9 the recorded release is the one to go back to.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.domain.events import EventKind
from pipelines.domain.promotion import ReleaseState, lifecycle
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Phase, Slot
from pipelines.errors import DeployFailed, LostLease, SlipwayError, UnknownVersion
from pipelines.governance.work import tell_release
from pipelines.ports import J, Step, Transaction
from pipelines.releases import leases
from pipelines.releases.alias import point_alias
from pipelines.releases.services import Services
from pipelines.releases.undo import bring_back, end_intents, fail, settle
from pipelines.releases.waiting import wait_settled

_LATEST = 6


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
        here = list[str]()
        step("K6 converged", lambda: at_step(services, "K6", lambda: _converge(services, change, release_id, here)))
        ran = step(
            "K7 every replica verified",
            lambda: at_step(services, "K7", lambda: _verify(services, change, release_id, here)),
        )
        step("K8 alias moved", lambda: at_step(services, "K8", lambda: _project(services, change, release_id)))
        step("K9 recorded", lambda: at_step(services, "K9", lambda: _record(services, change, release_id, ran, finish)))
    except LostLease:
        raise
    except SlipwayError as failure:
        message, hint = failure.message, failure.next
        try:
            left = step("undo: recorded release restored", lambda: _undo(services, change, release_id, message))
        except LostLease:
            raise
        except SlipwayError as also:
            # Whoever records that this work stopped leaves it to the next look.
            left = {"serving": False, "troubles": [also.message]}
        if not left["serving"]:
            told = "\n".join([message, *(f"not undone: {trouble}" for trouble in left["troubles"])])
            raise DeployFailed(told, next=hint or 'see "slipway status" and the log lines above') from failure
    step("lifecycle tags written", lambda: _try_lifecycles(services, change))
    return release_id


def at_step(services: Services, name: str, action: Callable[[], J]) -> J:
    """Run the action of a step, then let a test stop the process just before the step is recorded."""
    answer = action()
    services.fault(name)
    return answer


def _prepare(services: Services, change: Change) -> None:
    services.target.prepare(change.endpoint, change.bundle_digest)


def _record_intent(services: Services, change: Change) -> str:
    with services.records.write() as transaction:
        leases.confirm(services, change.model, change.environment, change.holder, within=transaction)
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
        tell_release(transaction, EventKind.RELEASE_STARTED, record)
        detail = {"environment": change.environment, "version": change.version, "bundle": change.bundle_digest}
        transaction.audit(change.actor, f"release.{change.kind}", "intent", subject=record.id, detail=detail)
        return record.id


def _start(services: Services, change: Change, release_id: str) -> None:
    record = services.records.get(ReleaseRecord, release_id)
    with leases.confirmed(services, change.model, change.environment, change.holder) as epoch:
        services.target.start(record.release, Slot.LIVE, epoch=epoch)


def _converge(services: Services, change: Change, release_id: str, here: list[str]) -> None:
    """Wait until a release has settled, and note that it has while this process looked, `here`."""

    def order() -> None:
        _prepare(services, change)
        _start(services, change, release_id)

    wait_settled(services, change.endpoint, Slot.LIVE, release_id, order=order)
    here.append(release_id)


def _await_again(services: Services, change: Change, record: ReleaseRecord) -> None:
    """Wait until a release serves again that had settled when a former executor died, as with the whole machine.

    What does not come back is left to who looks next.
    """
    _converge(services, change, record.id, [])
    deadline = time.monotonic() + services.timing.converge_s
    while time.monotonic() < deadline:
        state = services.target.observe(change.endpoint, Slot.LIVE)
        if state.serves(record.release) or state.phase is Phase.FAILED:
            return
        time.sleep(services.timing.poll_s)


def _verify(services: Services, change: Change, release_id: str, here: list[str]) -> dict[str, str] | None:
    """Ask every replica, and go on asking for a while: a release that crashes after its start is none.

    One that has not settled `here` is waited for first. Return by name which images it runs from; None where it is no
    image.
    """
    record = services.records.get(ReleaseRecord, release_id)
    if release_id not in here:
        _await_again(services, change, record)
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
            found = services.target.images(record.release)
            return {name: image for name, image in asdict(found).items() if image} if found else None
        time.sleep(services.timing.poll_s)


def _project(services: Services, change: Change, release_id: str) -> None:
    point_alias(
        services,
        change.endpoint,
        change.version,
        holder=change.holder,
        actor=change.actor,
        subject=release_id,
        served_before=change.restores is not None,
    )


def write_lifecycles(services: Services, model: str) -> None:
    """Write the `lifecycle` tags of the versions that the latest releases touched, where they differ."""
    for version in sorted({record.version for record in latest_releases(services, model)}):
        history = services.records.find(ReleaseRecord, model=model, version=version)
        wanted = lifecycle([(record.environment, version, record.state) for record in history], version)
        try:
            if services.registry.version(model, version).tags.get("lifecycle") != wanted:
                leases.confirm_leader(services)
                services.registry.set_tag(model, version, "lifecycle", wanted)
        except UnknownVersion:
            # Deleted: there is nothing left to write on, and the others have theirs.
            continue


def latest_releases(services: Services, model: str) -> list[ReleaseRecord]:
    """Return the releases whose versions people look at, oldest first."""
    return services.records.newest(ReleaseRecord, _LATEST, model=model)[0]


def _try_lifecycles(services: Services, change: Change) -> None:
    """Write the tags now; what fails delays only what people read there, and the executor repeats it."""
    try:
        write_lifecycles(services, change.model)
    except LostLease:
        raise
    except SlipwayError as error:
        services.note(change.holder, "lifecycle tags", f"not written yet: {error.message}")


def _record(services: Services, change: Change, release_id: str, images: dict[str, str] | None, finish: Finish) -> None:
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
            end_intents(transaction, previous, {"result": "superseded"})
        if previous and change.kind == "rollback":
            _mark_restored_chain(transaction, previous)
        served = transaction.change(current, state=ReleaseState.SERVING, serving_at=at)
        # Begun while nothing was recorded here.
        endpoint = leases.lease_id(change.model, change.environment)
        end_intents(transaction, served, {"result": "superseded"}, subject=endpoint)
        for half_done in transaction.find(ReleaseRecord, **{**here, "state": ReleaseState.UNDOING}):
            settle(transaction, services, half_done, {"result": "superseded"})
        more = {"replaced": previous.version if previous else None, **(images or {})}
        tell_release(transaction, EventKind.VERSION_RELEASED, served, **more)
        finish(transaction, services, change, served, previous)
        detail = {"environment": change.environment, "version": change.version, "result": "serving", **(images or {})}
        transaction.audit(change.actor, f"release.{change.kind}", "outcome", subject=release_id, detail=detail)
        # Whoever sees this work as done may ask for the next at once.
        leases.free(transaction, services, change.holder)


def _mark_restored_chain(transaction: Transaction, release: ReleaseRecord) -> None:
    """Mark what a rolled-back release had itself restored: the same bundle is no way back."""
    seen = {release.id}
    while release.restores and release.restores not in seen:
        seen.add(release.restores)
        release = transaction.get(ReleaseRecord, release.restores)
        transaction.change(release, state=ReleaseState.ROLLED_BACK)


def _undo(services: Services, change: Change, release_id: str, why: str) -> dict[str, Any]:
    """Bring the recorded release and its alias back, and record the failure and what could not be undone.

    Return whether the release serves after all (its record was written, only the answer was lost), and
    the troubles met.
    """
    if services.records.get(ReleaseRecord, release_id).state is ReleaseState.SERVING:
        return {"serving": True, "troubles": []}
    troubles = bring_back(services, change.endpoint, change.holder)
    with services.records.write() as transaction:
        leases.confirm(services, change.model, change.environment, change.holder, within=transaction)
        release = transaction.get(ReleaseRecord, release_id)
        if release.state is ReleaseState.STARTING:
            fail(transaction, services, release, why, troubles)
    return {"serving": False, "troubles": troubles}
